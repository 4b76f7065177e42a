//! What whole networks come to.
//!
//! Invariant: convolutions run with their channels last, and nothing is transposed between them.

#[path = "../../benches/models/mod.rs"]
pub mod models;

use kiln_ir::Graph;
use kiln_ir::op::{ConvLayout, Op};
use kiln_passes::{CostModel, EGraphOptions, PlanOptions, TileTarget, optimise, plan, simplify};
use kiln_program::Step;

/// What is launched, and what moves or convolves badly.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    launches: usize,
    kernels: usize,
    transposes: usize,
    channels_first: usize,
}

fn tally(graph: &Graph) -> Tally {
    let simple = simplify(graph).unwrap();
    let (fused, _) =
        optimise(&simple, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap();
    let plan = plan(&fused, &TileTarget::avx512(2), &PlanOptions::default()).unwrap();
    let mut tally = Tally { kernels: plan.kernels.len(), ..Tally::default() };
    let launch = |step: &&Step| matches!(step, Step::Launch { .. });
    tally.launches = plan.program.steps.iter().filter(launch).count();
    let bodies = fused.nodes().flat_map(|(_, node)| &node.regions);
    for (_, node) in fused.nodes().chain(bodies.flat_map(Graph::nodes)) {
        match &node.op {
            Op::Transpose(_) => tally.transposes += 1,
            Op::Conv(conv) if conv.layout == ConvLayout::ChannelsFirst => tally.channels_first += 1,
            _ => {}
        }
    }
    tally
}

#[test]
fn encoders_are_seven_kernels_a_layer() {
    let found = tally(&models::encoder(6, 384, 12));
    assert_eq!((found.launches, found.kernels), (6 * 7, 6), "{found:?}");
}

#[test]
fn decoders_are_twelve_kernels_a_layer() {
    // The turns and the first and last normalisation beside them.
    let found = tally(&models::decoder(6, 384, 12));
    assert_eq!((found.launches, found.kernels), (6 * 12 + 3, 13), "{found:?}");
}

#[test]
fn convolutional_networks_move_nothing_between_convolutions() {
    // One transpose for the input; the head reads what is left in place.
    let found = tally(&models::resnet50());
    assert_eq!((found.transposes, found.channels_first), (1, 0), "{found:?}");
    // Every convolution with all that follows it, pooling twice, the head's product and softmax.
    assert_eq!(found.launches, 53 + 2 + 2 + 1, "{found:?}");
    let found = tally(&models::densenet121());
    assert_eq!((found.transposes, found.channels_first), (1, 0), "{found:?}");
}
