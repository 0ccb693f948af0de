//! A question answered without the service: `cargo run --release -p moe-gps-core --example advise`.
#![expect(clippy::print_stdout, reason = "an example prints its answer")]

use moe_gps_core::advice::{Unrecorded, advise, explain};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::question::Question;
use moe_gps_core::routing::power_law;
use moe_gps_core::system::{Cluster, Dtype, Workload};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let catalog = Catalog::embedded();
    let device = catalog.device("h100-sxm")?.value.clone();
    let cluster = Cluster::of_one_node(device, 4, catalog.link("nvlink4")?.value.clone());
    let model = catalog.model("mixtral-8x7b")?.value.model.clone();
    let (experts, top_k) = (model.experts.routed, model.experts.top_k);
    let question = Question::new(model, cluster, Workload::prefill(8, 1024, Dtype::Bf16));
    let shares = power_law::with_skewness(experts, top_k, 1.8);
    let known = RoutingEvidence::Scalar { shares, distribution_error: None };
    let unrecorded = None::<&mut Unrecorded>;
    let advised = advise(&question, &known, Vec::new(), unrecorded, Cancel::NEVER)?;
    println!("{}", explain::reason(&question, &known, &advised));
    Ok(())
}
