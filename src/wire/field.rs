//! What a field of a request may hold, said once: the reader and the API description both
//! follow from it.
//!
//! `object!` declares an object with its fields. Each field names its [`FieldKind`] (a range, a
//! list of choices, an array of another kind, an object of its own) within [`required`],
//! [`optional`] or [`filled`].

use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, Ref, Schema, SchemaFormat, Type,
};

use crate::wire::read::{Fields, Located};

/// Schemas by name, as utoipa gathers them.
pub type Named = Vec<(String, RefOr<Schema>)>;

/// What a value may be: how it is read, and how the API description shows it.
pub trait FieldKind<V> {
    /// The value at `place`; what is wrong with it is noted.
    fn read(&self, place: &Located) -> Option<V>;

    /// What the API description says of it.
    fn schema(&self) -> RefOr<Schema>;

    /// The schemas that [`Self::schema`] refers to.
    fn gather(&self, _found: &mut Named) {}
}

fn of_type(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

fn whole(low: u64, high: u64) -> RefOr<Schema> {
    let fits = |most: u64| high <= most;
    let format = match () {
        () if fits(i32::MAX.unsigned_abs().into()) => SchemaFormat::KnownFormat(KnownFormat::Int32),
        () if fits(i64::MAX.unsigned_abs()) => SchemaFormat::KnownFormat(KnownFormat::Int64),
        () => SchemaFormat::Custom("uint64".to_owned()),
    };
    let shown = of_type(Type::Integer).format(Some(format));
    shown.minimum(Some(low)).maximum(Some(high)).into()
}

impl FieldKind<u32> for RangeInclusive<u32> {
    fn read(&self, place: &Located) -> Option<u32> {
        place.small_integer(self.clone())
    }

    fn schema(&self) -> RefOr<Schema> {
        whole((*self.start()).into(), (*self.end()).into())
    }
}

impl FieldKind<u64> for RangeInclusive<u64> {
    fn read(&self, place: &Located) -> Option<u64> {
        place.integer(self.clone())
    }

    fn schema(&self) -> RefOr<Schema> {
        whole(*self.start(), *self.end())
    }
}

impl FieldKind<f64> for RangeInclusive<f64> {
    fn read(&self, place: &Located) -> Option<f64> {
        place.number(self.clone())
    }

    fn schema(&self) -> RefOr<Schema> {
        let double = SchemaFormat::KnownFormat(KnownFormat::Double);
        let number = of_type(Type::Number).format(Some(double));
        number.minimum(Some(*self.start())).maximum(Some(*self.end())).into()
    }
}

/// True or false.
#[derive(Debug, Clone, Copy)]
pub struct Flag;

impl FieldKind<bool> for Flag {
    fn read(&self, place: &Located) -> Option<bool> {
        place.boolean()
    }

    fn schema(&self) -> RefOr<Schema> {
        of_type(Type::Boolean).into()
    }
}

/// A string of 1 to 256 characters.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl FieldKind<String> for Text {
    fn read(&self, place: &Located) -> Option<String> {
        place.text().map(ToOwned::to_owned)
    }

    fn schema(&self) -> RefOr<Schema> {
        of_type(Type::String).min_length(Some(1)).max_length(Some(Located::LONGEST_TEXT)).into()
    }
}

/// One of these names, each with the value it stands for.
#[derive(Debug, Clone, Copy)]
pub struct OneOf<'a, V>(pub &'a [(V, &'static str)]);

impl<V: Copy> FieldKind<V> for OneOf<'_, V> {
    fn read(&self, place: &Located) -> Option<V> {
        place.one_of(self.0)
    }

    fn schema(&self) -> RefOr<Schema> {
        of_type(Type::String).enum_values(Some(self.0.iter().map(|(_, name)| *name))).into()
    }
}

/// An array of so many items of one kind.
#[derive(Debug, Clone)]
pub struct List<K>(pub RangeInclusive<usize>, pub K);

impl<V, K: FieldKind<V>> FieldKind<Vec<V>> for List<K> {
    fn read(&self, place: &Located) -> Option<Vec<V>> {
        let items = place.items(self.0.clone())?;
        let read: Vec<Option<V>> = items.iter().map(|item| self.1.read(item)).collect();
        read.into_iter().collect()
    }

    fn schema(&self) -> RefOr<Schema> {
        let fewest = Some(*self.0.start()).filter(|fewest| 0 < *fewest);
        let array = ArrayBuilder::new().items(self.1.schema());
        array.min_items(fewest).max_items(Some(*self.0.end())).into()
    }

    fn gather(&self, found: &mut Named) {
        self.1.gather(found);
    }
}

/// A kind with a rule besides that no schema can say; the rule notes what breaks it.
#[derive(Debug, Clone)]
pub struct Holding<K, V>(pub K, pub fn(&Located, &V) -> bool);

impl<V, K: FieldKind<V>> FieldKind<V> for Holding<K, V> {
    fn read(&self, place: &Located) -> Option<V> {
        self.0.read(place).filter(|value| (self.1)(place, value))
    }

    fn schema(&self) -> RefOr<Schema> {
        self.0.schema()
    }

    fn gather(&self, found: &mut Named) {
        self.0.gather(found);
    }
}

/// A type that says by itself how it is read.
pub trait Readable: Sized {
    /// The value at `place`; what is wrong with it is noted.
    fn read(place: &Located) -> Option<Self>;

    /// What the API description says of it where it stands.
    fn shown() -> RefOr<Schema>;

    /// The schemas that [`Self::shown`] refers to.
    fn gather(found: &mut Named);
}

/// What the type of the field says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Itself;

impl<V: Readable> FieldKind<V> for Itself {
    fn read(&self, place: &Located) -> Option<V> {
        V::read(place)
    }

    fn schema(&self) -> RefOr<Schema> {
        V::shown()
    }

    fn gather(&self, found: &mut Named) {
        V::gather(found);
    }
}

/// A value that is not read yet, to be read later as a `T`.
#[derive(Debug, Clone, Copy)]
pub struct Unread<T>(std::marker::PhantomData<T>);

/// A value to be read later as a `T`.
#[must_use]
pub const fn unread<T>() -> Unread<T> {
    Unread(std::marker::PhantomData)
}

impl<T: Readable> FieldKind<Value> for Unread<T> {
    fn read(&self, place: &Located) -> Option<Value> {
        Some(place.value().clone())
    }

    fn schema(&self) -> RefOr<Schema> {
        T::shown()
    }

    fn gather(&self, found: &mut Named) {
        T::gather(found);
    }
}

/// A field: its kind, and whether it may be left out.
pub trait Field<V> {
    /// Whether the object must have it.
    fn is_required(&self) -> bool;

    /// The field `name` of an object.
    fn read(&self, fields: &Fields, name: &'static str) -> V;

    /// What the API description says of it.
    fn schema(&self) -> RefOr<Schema>;

    /// The schemas that [`Self::schema`] refers to.
    fn gather(&self, found: &mut Named);
}

/// A field that is `None` where it is left out or cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct Maybe<K> {
    kind: K,
    required: bool,
}

/// A field that must be there.
pub const fn required<K>(kind: K) -> Maybe<K> {
    Maybe { kind, required: true }
}

/// A field that may be left out.
pub const fn optional<K>(kind: K) -> Maybe<K> {
    Maybe { kind, required: false }
}

impl<V, K: FieldKind<V>> Field<Option<V>> for Maybe<K> {
    fn is_required(&self) -> bool {
        self.required
    }

    fn read(&self, fields: &Fields, name: &'static str) -> Option<V> {
        let place = if self.required { fields.require(name) } else { fields.get(name) };
        self.kind.read(&place?)
    }

    fn schema(&self) -> RefOr<Schema> {
        self.kind.schema()
    }

    fn gather(&self, found: &mut Named) {
        self.kind.gather(found);
    }
}

/// A field that is its default where it is left out or cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct Filled<K>(K);

/// A field that is its default where it is left out.
pub const fn filled<K>(kind: K) -> Filled<K> {
    Filled(kind)
}

impl<V: Default, K: FieldKind<V>> Field<V> for Filled<K> {
    fn is_required(&self) -> bool {
        false
    }

    fn read(&self, fields: &Fields, name: &'static str) -> V {
        fields.get(name).and_then(|place| self.0.read(&place)).unwrap_or_default()
    }

    fn schema(&self) -> RefOr<Schema> {
        self.0.schema()
    }

    fn gather(&self, found: &mut Named) {
        self.0.gather(found);
    }
}

/// An object that `object!` declares.
pub trait Object: ToSchema {
    /// The fields, each read or noted.
    fn read_fields(fields: &Fields) -> Self;
}

impl<T: Object> Readable for T {
    fn read(place: &Located) -> Option<Self> {
        let fields = place.object()?;
        let read = T::read_fields(&fields);
        fields.finish();
        Some(read)
    }

    fn shown() -> RefOr<Schema> {
        Ref::from_schema_name(T::name()).into()
    }

    fn gather(found: &mut Named) {
        found.push((T::name().into_owned(), T::schema()));
        T::schemas(found);
    }
}

/// The schema of an object so far, with one field more.
pub fn with<V>(
    object: ObjectBuilder,
    name: &str,
    doc: &[&str],
    field: &impl Field<V>,
) -> ObjectBuilder {
    let object = object.property(name, described(field.schema(), &prose(doc)));
    if field.is_required() { object.required(name) } else { object }
}

/// The schema of an object that refuses unknown fields.
#[must_use]
pub fn closed(object: ObjectBuilder) -> ObjectBuilder {
    object.additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
}

/// Lines of a doc comment as one text.
#[must_use]
pub fn prose(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// A schema with what is said of it where it stands.
#[must_use]
pub fn described(schema: RefOr<Schema>, text: &str) -> RefOr<Schema> {
    match schema {
        RefOr::Ref(mut reference) => {
            text.clone_into(&mut reference.description);
            RefOr::Ref(reference)
        }
        RefOr::T(mut schema) => {
            let text = Some(text.to_owned());
            match &mut schema {
                Schema::Array(array) => array.description = text,
                Schema::Object(object) => object.description = text,
                Schema::AnyOf(any) => any.description = text,
                _ => {}
            }
            RefOr::T(schema)
        }
    }
}

/// Declares an object of a request: the type, its reader and its schema.
///
/// ```text
/// object! {
///     /// What it is.
///     #[derive(Copy)]
///     #[check(rule_over_several_fields)]
///     pub struct Name {
///         /// What the field is.
///         pub field: Option<u32> = optional(1..=4096),
///     }
/// }
/// ```
macro_rules! object {
    (
        $(#[doc = $doc:literal])+
        $(#[derive($($derive:ident),+)])?
        $(#[check($check:path)])?
        pub struct $name:ident {
            $($(#[doc = $about:literal])+ pub $field:ident: $type:ty = $kind:expr,)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Default $($(, $derive)+)?)]
        pub struct $name {
            $($(#[doc = $about])+ pub $field: $type,)+
        }

        impl $crate::wire::field::Object for $name {
            fn read_fields(fields: &$crate::wire::read::Fields) -> Self {
                let read = Self {
                    $($field: $crate::wire::field::Field::<$type>::read(
                        &$kind, fields, stringify!($field),
                    ),)+
                };
                $($check(fields, &read);)?
                read
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                let object = utoipa::openapi::schema::ObjectBuilder::new()
                    .title(Some(stringify!($name)))
                    .description(Some($crate::wire::field::prose(&[$($doc),+])));
                $(let object = $crate::wire::field::with::<$type>(
                    object, stringify!($field), &[$($about),+], &$kind,
                );)+
                $crate::wire::field::closed(object).into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn schemas(found: &mut $crate::wire::field::Named) {
                $($crate::wire::field::Field::<$type>::gather(&$kind, found);)+
            }
        }
    };
}

/// Names a kind, so that a parameter of a query can be described by it.
macro_rules! named {
    ($(#[doc = $doc:literal])+ $name:ident: $kind:expr) => {
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub struct $name;

        impl utoipa::ToSchema for $name {}

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $crate::wire::field::FieldKind::schema(&$kind)
            }
        }
    };
}

pub(crate) use {named, object};
