//! Settings that carry their own help: the docstrings of their fields, at run time.

use std::marker::PhantomData;

/// A setting or a table of settings, with what it does.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in its table.
    pub name: &'static str,
    /// The docstring of its field, as it stands there.
    pub doc: &'static str,
    /// The settings of a table; none of a single setting.
    pub table: &'static [Setting],
}

impl Setting {
    /// What it does, in one line.
    pub fn about(&self) -> &'static str {
        self.doc.trim()
    }
}

/// Settings whose docstrings are known at run time; [`documented!`](crate::documented!) implements it.
pub trait Documented {
    /// Every setting, in the order of the fields.
    const SETTINGS: &'static [Setting];
}

/// Defines structs of settings that are [`Documented`]. A field without a docstring does not compile, so no setting can lack its help.
///
/// ```
/// use fewstep_search::{Documented, documented};
///
/// documented! {
///     /// A search.
///     pub struct Search {
///         /// States kept at every level.
///         pub beam: usize,
///     }
///
///     /// All settings.
///     pub struct Settings {
///         /// How plans are searched.
///         pub search: Search,
///     }
/// }
/// let search = Settings::SETTINGS[0];
/// assert_eq!((search.name, search.about()), ("search", "How plans are searched."));
/// assert_eq!(search.table[0].about(), "States kept at every level.");
/// ```
#[macro_export]
macro_rules! documented {
    ($(
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $($(#[doc = $doc:literal])+ $(#[serde($($serde:tt)*)])* pub $field:ident: $type:ty,)+
        }
    )+) => {$(
        $(#[$attribute])*
        pub struct $name {
            $($(#[doc = $doc])+ $(#[serde($($serde)*)])* pub $field: $type,)+
        }

        impl $crate::Documented for $name {
            const SETTINGS: &'static [$crate::documented::Setting] = {
                #[allow(unused_imports)] // where every field is a table
                use $crate::documented::Single as _;
                &[$($crate::documented::Setting {
                    name: stringify!($field),
                    doc: concat!($($doc),+),
                    table: <$crate::documented::Of<$type>>::SETTINGS,
                }),+]
            };
        }
    )+};
}

/// Asks a type for its settings. Rust takes the constant below for types that are [`Documented`], and that of [`Single`] for all others.
#[doc(hidden)]
#[derive(Debug)]
pub struct Of<T>(PhantomData<T>);

impl<T: Documented> Of<T> {
    pub const SETTINGS: &'static [Setting] = T::SETTINGS;
}

/// A single setting is no table.
#[doc(hidden)]
pub trait Single {
    const SETTINGS: &'static [Setting] = &[];
}

impl<T> Single for Of<T> {}
