//! What a strategy costs: the laws of a layer bound to a question, the loads of its devices under
//! a placement, and the placements that are priced.

pub(crate) mod attention_block;
pub mod candidates;
pub mod device_load;
pub mod entry;
pub mod error;
pub mod kinds;
pub mod layer;
pub mod margin;
pub mod paper;
pub(crate) mod paper_layer;
pub mod planner;
pub mod routing_evidence;
pub mod serving;
pub mod slot_shares;
