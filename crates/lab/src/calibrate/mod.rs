//! Constants of the laws fitted to measurements of one device.
//!
//! [`profile`] takes everything that was measured. Measurements of one operator and one
//! piece of software become one set of constants: [`parameters`] names what is free in
//! each law and between which bounds, [`simplex`] searches without derivatives from fixed
//! starting points, [`fit`] minimises
//!
//! ```text
//! mean |ln(predicted/measured)| + 0.3 · mean ln²(predicted/measured)
//! ```
//!
//! Communication is fitted library by library ([`collectives`], [`exchanges`]), its curves
//! drawn towards their [`shrinkage`]. Every fit is repeated without a part of the shapes
//! at a time, so that every error that is reported as held out is that of a shape the fit
//! had not seen. The laws are those that answer questions; nothing is random, so equal
//! rows give equal constants.

pub mod collectives;
pub mod evidence;
pub mod exchanges;
pub mod fit;
mod floors;
mod held_out;
pub mod parameters;
pub mod profile;
pub mod recurrent;
pub mod run;
pub mod shrinkage;
pub mod simplex;
pub mod write;
mod write_links;
