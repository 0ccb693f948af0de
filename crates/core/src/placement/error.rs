//! What can be wrong with a shape, a load, or a slot map.

/// Why a placement cannot exist.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlacementError {
    /// A count is zero.
    #[error("{what} is 0, must be at least 1")]
    Zero {
        /// Which count.
        what: &'static str,
    },
    /// Devices cannot own equal numbers of slots.
    #[error(
        "{slots} slots cannot be divided evenly among {devices} devices: use a multiple of {devices}"
    )]
    UnevenSlots {
        /// Slots in all.
        slots: u32,
        /// Devices.
        devices: u32,
    },
    /// Some expert would have no slot.
    #[error("{slots} slots cannot hold {experts} experts: use at least one slot per expert")]
    TooFewSlots {
        /// Slots in all.
        slots: u32,
        /// Experts.
        experts: u32,
    },
    /// A device has more slots than there are different experts for it.
    #[error(
        "{slots_per_device} slots per device need two copies of one expert on a device when \
         a device can hold {experts} different ones: use fewer slots or allow duplicates"
    )]
    DuplicatesUnavoidable {
        /// Slots of one device.
        slots_per_device: u32,
        /// Different experts a device may hold.
        experts: u32,
    },
    /// The copies allowed do not fill the slots.
    #[error(
        "{experts} experts with at most {max_copies} replicas each cannot fill {slots} slots: \
         use fewer slots or allow more copies"
    )]
    TooFewCopies {
        /// Slots in all.
        slots: u32,
        /// Experts.
        experts: u32,
        /// Most replicas of an expert.
        max_copies: u32,
    },
    /// Groups, nodes, experts and devices do not divide each other.
    #[error("{what} {whole} is not a multiple of {part_name} {part}")]
    Indivisible {
        /// The larger count's name.
        what: &'static str,
        /// The larger count.
        whole: u32,
        /// The smaller count's name.
        part_name: &'static str,
        /// The smaller count.
        part: u32,
    },
    /// The load does not name every expert once.
    #[error("a load of {got} experts was given for {experts} experts")]
    LoadLength {
        /// Entries given.
        got: usize,
        /// Experts.
        experts: u32,
    },
    /// A load is not a number a device can carry.
    #[error("the load of expert {expert} is {value}, must be from 0 to 1e30")]
    BadLoad {
        /// The expert.
        expert: usize,
        /// Its load.
        value: f64,
    },
    /// No load was given, or all weights are zero.
    #[error("no load to plan for: give at least one with a positive, finite weight")]
    NoLoad,
    /// A map names an expert that does not exist.
    #[error("slot {slot} holds expert {expert}, experts are 0 to {experts} exclusive")]
    UnknownExpert {
        /// The slot.
        slot: usize,
        /// What it holds.
        expert: u32,
        /// Experts.
        experts: u32,
    },
    /// A map leaves an expert out.
    #[error("expert {expert} has no slot: every expert must be placed")]
    MissingExpert {
        /// The expert.
        expert: u32,
    },
    /// A map has the wrong number of slots.
    #[error("a map of {got} slots was given, the shape has {slots}")]
    SlotCount {
        /// Slots given.
        got: usize,
        /// Slots of the shape.
        slots: u32,
    },
}
