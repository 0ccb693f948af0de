//! Who is let in: the token, its scope, and on loopback the name that was asked for.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::app::tokens::{Caller, Denied, Scope};
use crate::http::problem::Failure;
use crate::http::serve::OnWire;
use crate::http::state::Service;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Paths that answer without a token: probes and the metrics.
#[must_use]
pub(super) fn is_open(path: &str) -> bool {
    path == "/metrics" || is_probe(path)
}

fn is_probe(path: &str) -> bool {
    ["/livez", "/live", "/health", "/healthz", "/readyz", "/ready"].contains(&path)
}

/// What a request needs to be allowed.
pub(super) fn needed(method: &Method, path: &str) -> Scope {
    // Catalog entries and recordings belong to all.
    let of_all = ["/v1/devices", "/v1/models"].iter().any(|all| path.starts_with(all))
        || (method == Method::DELETE && path.starts_with("/v1/traces"));
    // Drawing a map computes, though it changes nothing.
    let computes = path == "/map";
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS if !computes => Scope::Read,
        _ if of_all => Scope::Admin,
        _ => Scope::Ask,
    }
}

/// Lets a request in, or says why not.
pub(super) async fn admit(
    State(service): State<Service>,
    mut request: Request,
    next: Next,
) -> Response {
    // A body cannot be shared between threads, and stays out of what is waited for.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let token = token(request.headers());
    let hosted = request.headers().contains_key(header::HOST) || request.uri().host().is_some();
    let on_wire = request.extensions().get::<OnWire>().copied();
    if on_wire.is_some_and(|on_wire| on_wire.is_spare) && !is_probe(&path) {
        let detail = "as many connections are open as may be; try again";
        let mut response = Failure::not_ready(detail).into_response();
        response.headers_mut().insert(header::CONNECTION, CLOSE);
        return response;
    }
    if !hosted && on_wire.is_some() {
        return Failure::malformed("the request has no Host (RFC 9112 section 3.2)")
            .into_response();
    }
    let (headers, uri, names) = (request.headers(), request.uri(), &service.own_names);
    let local = if service.is_local { check_origin(headers, uri, names) } else { Ok(()) };
    let origin = local.and_then(|()| check_change(&method, headers, uri, names));
    let checked = match origin {
        Ok(()) => check(&service, &method, &path, token).await,
        Err(failure) => Err(failure),
    };
    let draining = service.app.board.draining.clone();
    match checked {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let mut response = next.run(request).await;
            if draining.is_cancelled() {
                // So that a client does not send its next request into a connection that ends.
                response.headers_mut().insert(header::CONNECTION, CLOSE);
            }
            response
        }
        Err(failure) => failure.into_response(),
    }
}

async fn check(
    service: &Service,
    method: &Method,
    path: &str,
    token: Option<String>,
) -> Result<Option<Caller>, Failure> {
    if is_open(path) && !(path == "/metrics" && service.guard_metrics) {
        return Ok(None);
    }
    let admitted = service.app.gate.admit(&service.app.store, token.as_deref()).await;
    let caller = admitted.map_err(|denied| match denied {
        Denied::Missing => Failure::unauthenticated(
            "this needs a token: `Authorization: Bearer TOKEN`, or the token as the password of \
             HTTP Basic",
        ),
        Denied::Unknown => Failure::unauthenticated(
            "the token is none that counts: mistyped, revoked, or of another service",
        ),
        Denied::Store(error) => error.into(),
    })?;
    let needed = needed(method, path);
    if caller.scope < needed {
        let (has, needs) = (caller.scope.id(), needed.id());
        let detail = format!("this needs a token of scope `{needs}`; the one given has `{has}`");
        return Err(Failure::forbidden(detail));
    }
    Ok(Some(caller))
}

/// The token of a request: that of Bearer, or the password of Basic.
fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// Refuses what a page of another origin asks of a service on this machine: such a page names
/// its own origin, or has had its own name resolved to the loopback address.
fn check_origin(headers: &HeaderMap, uri: &Uri, names: &[String]) -> Result<(), Failure> {
    let host = host_of(headers, uri);
    let is_ours = |authority: &str| {
        authority.parse::<Authority>().is_ok_and(|authority| is_own(authority.host(), names))
    };
    if let Some(host) = host
        && !is_ours(host)
    {
        return Err(Failure::forbidden(format!(
            "the service listens on this machine only and was asked as {host:?}; ask it as \
             localhost, or name the host in --allowed-hosts"
        )));
    }
    let origin = headers.get(header::ORIGIN);
    let fits = origin.is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, authority)| is_ours(authority))
    });
    if !fits {
        return Err(Failure::forbidden(
            "the request comes from a web page of another origin; name its host in \
             --allowed-hosts if that is meant",
        ));
    }
    Ok(())
}

/// The authority under which the service was asked.
fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| uri.authority().map(Authority::as_str))
}

/// Refuses a change that a page of another origin asks for: a browser sends along by itself the
/// token with which somebody has signed in here.
fn check_change(
    method: &Method,
    headers: &HeaderMap,
    uri: &Uri,
    names: &[String],
) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(header::ORIGIN).filter(|_| !method.is_safe()) else {
        return Ok(());
    };
    // A proxy may have changed the host; what the browser says of its own page it has not.
    if text("sec-fetch-site") == Some("same-origin") {
        return Ok(());
    }
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let is_named = authority
        .parse::<Authority>()
        .is_ok_and(|one| names.contains(&one.host().to_ascii_lowercase()));
    if is_named || host_of(headers, uri).is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
        return Ok(());
    }
    Err(Failure::forbidden(format!(
        "the change is asked for by a web page of another origin, {origin:?}; name its host in \
         --allowed-hosts if that is meant"
    )))
}

/// Whether a host is this machine, or a name that was allowed.
fn is_own(host: &str, names: &[String]) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
        || names.contains(&host)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        // Put there by `admit`, which stands before every handler that asks.
        Ok(parts.extensions.get().cloned().unwrap_or_else(Self::local))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        let names = ["advice.example".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "advice.example",
        ] {
            assert!(is_own(host, &names), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "0.0.0.0",
            "",
        ] {
            assert!(!is_own(host, &names), "{host}");
        }
    }

    #[test]
    fn tokens_come_as_bearer_and_as_the_password_of_basic() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
            token(&headers)
        };
        assert_eq!(of("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(of("bearer  abc "), Some("abc".to_owned()));
        // "anyone:abc:d"
        assert_eq!(of("Basic YW55b25lOmFiYzpk"), Some("abc:d".to_owned()));
        assert_eq!(of("Basic !"), None);
        assert_eq!(of("Digest abc"), None);
    }

    #[test]
    fn scopes_are_those_of_the_documents() {
        for (method, path, scope) in [
            (Method::GET, "/v1/devices", Scope::Read),
            (Method::GET, "/docs", Scope::Read),
            (Method::GET, "/", Scope::Read),
            (Method::GET, "/map", Scope::Ask),
            (Method::POST, "/ask", Scope::Ask),
            (Method::POST, "/traces", Scope::Ask),
            (Method::POST, "/v1/recommendations", Scope::Ask),
            (Method::POST, "/v1/sweeps", Scope::Ask),
            (Method::POST, "/v1/traces", Scope::Ask),
            (Method::PUT, "/v1/traces/x/embedding", Scope::Ask),
            (Method::DELETE, "/v1/recommendations/x", Scope::Ask),
            (Method::DELETE, "/v1/traces/x", Scope::Admin),
            (Method::GET, "/v1/deployments/x", Scope::Read),
            (Method::PUT, "/v1/deployments/x", Scope::Ask),
            (Method::PUT, "/v1/deployments/x/current", Scope::Ask),
            (Method::POST, "/v1/deployments/x/loads", Scope::Ask),
            (Method::DELETE, "/v1/deployments/x", Scope::Ask),
            (Method::POST, "/v1/devices", Scope::Admin),
            (Method::DELETE, "/v1/models/x", Scope::Admin),
        ] {
            assert_eq!(needed(&method, path), scope, "{method} {path}");
        }
    }
}
