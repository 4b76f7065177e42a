//! Convolutions by transformed tiles: where they are chosen, and how exact they are.
//!
//! Invariant: compared with the convolution itself, in f64, by the bound of the optimised graph.

use crate::instance::Instance;
use crate::interpreter;
use kiln_ir::accuracy::{Tolerance, rounded_steps};
use kiln_ir::op::{Conv, ConvLayout, Op};
use kiln_ir::{Graph, Node, evaluate};
use kiln_passes::{CostModel, EGraphOptions, PlanOptions, TileTarget, optimise, plan};
use kiln_tensor::{DType, SymbolValues};

/// A convolution of 3×3 over an image of `size` by `size`, from `channels` to `filters`.
fn convolution(size: usize, channels: usize, filters: usize, groups: usize) -> Instance {
    let mut instance = Instance::new(channels as u64, false);
    instance.dtype = DType::F32;
    let x = instance.input(&[1, channels, size, size]);
    let w = instance.constant(&[filters, channels / groups, 3, 3]);
    let conv = Conv {
        strides: vec![1; 2],
        dilations: vec![1; 2],
        before: vec![1; 2],
        after: vec![1; 2],
        groups,
        layout: ConvLayout::ChannelsFirst,
    };
    let y = instance.op(conv, &[x, w]);
    instance.graph.output(y, "y").unwrap();
    instance
}

fn optimised(graph: &Graph) -> Graph {
    optimise(graph, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap().0
}

fn has_tiles(graph: &Graph) -> bool {
    let transforms = |node: &Node| matches!(node.op, Op::Winograd(_));
    graph.nodes().any(|(_, node)| transforms(node) || node.regions.iter().any(has_tiles))
}

#[test]
fn tiles_are_as_exact_as_the_bound_of_their_graph_says() {
    for (size, channels) in [(8, 16), (8, 64), (8, 256), (7, 64), (13, 16)] {
        let instance = convolution(size, channels, 32, 1);
        let graph = optimised(&instance.graph);
        assert!(has_tiles(&graph), "{channels} channels");
        let steps = rounded_steps(&graph, &SymbolValues::new());
        assert_eq!(steps, 9 * channels as u64);
        let inputs = instance.arguments();
        let expected = evaluate(&instance.graph, inputs).unwrap();
        let plan = plan(&graph, &TileTarget::avx512(1), &PlanOptions::default()).unwrap();
        let actual = interpreter::run(&plan, inputs).unwrap();
        let tolerance = Tolerance::for_type(DType::F32, steps);
        let found = tolerance.compare(&actual[0], &expected[0]).unwrap();
        assert!(found.agrees(), "{channels} channels: {found}");
        // The bound tells: a hundredth of it does not hold.
        let tolerance = Tolerance {
            relative: tolerance.relative / 100.0,
            absolute: tolerance.absolute / 100.0,
            ..tolerance
        };
        assert!(!tolerance.compare(&actual[0], &expected[0]).unwrap().agrees());
    }
}

#[test]
fn tiles_are_chosen_where_they_cost_less() {
    let chosen = |size, channels, filters, groups| {
        has_tiles(&optimised(&convolution(size, channels, filters, groups).graph))
    };
    assert!(chosen(28, 64, 64, 1));
    assert!(chosen(7, 64, 64, 1));
    // Few channels, few filters, groups, and a tile that is mostly beyond the result.
    assert!(!chosen(28, 3, 64, 1));
    assert!(!chosen(28, 64, 2, 1));
    assert!(!chosen(28, 64, 64, 2));
    assert!(!chosen(1, 64, 64, 1));
}
