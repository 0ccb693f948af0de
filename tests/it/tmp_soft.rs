use crate::eplb_fixtures::loads;
use moe_gps::domain::placement::balance::{Balance, device_loads};
use moe_gps::domain::placement::best::{self, GroupRule, Options};
use moe_gps::domain::placement::{Groups, Shape};
#[test]
fn tmp_soft() {
    let shape = Shape::new(256, 32, 288).unwrap();
    let groups = Groups::new(shape, 8, 4).unwrap();
    for effort in [1, 20] {
        let (mut sr, mut sn) = (0.0, 0.0);
        for (l, load) in loads("b").iter().enumerate() {
            let map = best::plan(
                load,
                shape,
                &Options { groups: Some(GroupRule::Soft(groups)), effort, ..Options::default() },
            )
            .unwrap();
            let d = device_loads(&map, load);
            let nodes: Vec<f64> = d.chunks(8).map(|c| c.iter().sum()).collect();
            let (r, n) = (Balance::of(&d).imbalance(), Balance::of(&nodes).imbalance());
            sr += r;
            sn += n;
            if r > 1.003 {
                println!(
                    "{effort} {l} r {r:.4} nodes {n:.4} rep {}",
                    map.replicas().iter().max().unwrap()
                );
            }
        }
        println!("{effort} mean {} {}", sr / 58.0, sn / 58.0);
    }
}
