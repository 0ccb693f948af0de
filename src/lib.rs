//! Which expert-load forecast, if any, makes a mixture-of-experts deployment faster.
//!
//! Reading order: [`domain`] is the advice itself.

#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod domain;
