//! What is said of models that cannot be imported, and of options that do not fit.
//!
//! Invariant: each kind of problem has a case here that provokes it.

use crate::written::case;
use kiln_frontend::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, type_proto,
};
use kiln_frontend::{ImportOptions, Model, ProblemKind, Report, import, operators};
use kiln_ir::Graph;
use prost::Message;

fn imported(model: &ModelProto, dims: &[(&str, u64)]) -> Result<Graph, Report> {
    let model = Model::from_bytes(model.encode_to_vec()).unwrap();
    let dims = dims.iter().map(|(name, size)| (name.to_string(), *size)).collect();
    import(&model, &ImportOptions { dims })
}

/// The report on a model, a line a problem: code, place, message; then what would help.
fn report(model: &ModelProto, dims: &[(&str, u64)]) -> Vec<String> {
    let report = match imported(model, dims) {
        Ok(_) => return vec!["imported".to_owned()],
        Err(report) => report,
    };
    let lines = report.problems.iter().map(|problem| {
        let code = problem.kind.code().trim_start_matches("import/");
        format!("{code}: {}: {}", problem.site.node, problem.message)
    });
    lines.collect()
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(report(&case(text).model, &[]), expected, "{text}");
}

#[test]
fn one_report_lists_everything() {
    check(
        "case all opset 17
         input x f32[n=2,3] wave
         input i i64[r=2] 1 2
         node Relu x > a
         node TopK a,i > top,where
         node Neg top > lost
         node Gelu x > g
         node Softmax x > s axis=5
         node Reshape x,i > r
         node elsewhere:Thing x > t
         output lost",
        &[
            "unsupported-use: top: how many dimensions there are must be known, but is `r`",
            "outside-opset: g: opset 17 does not have it: it exists from 20 to 28",
            "malformed: s: axis 5 does not exist in a tensor of rank 2",
            "unsupported-use: r: how many dimensions there are must be known, but is `r`",
            "unsupported-operator: t: the operator is not supported",
        ],
    );
}

#[test]
fn a_report_is_written_with_types_and_help() {
    let text = "case text opset 17
                input x f32[n=2,3] wave
                node relu x > y
                output y";
    let report = imported(&case(text).model, &[]).unwrap_err();
    assert_eq!(
        report.to_string(),
        "the model cannot be imported: 1 problem\n  node `y` (ai.onnx relu opset 17): the operator \
         is not supported [import/unsupported-operator]\n    inputs: f32[n, 3]\n    help: is \
         `Relu` meant?"
    );
}

#[test]
fn uses_that_break_the_rules() {
    let mut wrong = Vec::new();
    for (lines, expected) in [
        ("node Relu > y", "input 0 is missing, 0 are given"),
        ("node Concat x,x > y", "attribute `axis` is missing"),
        ("node Concat x,x > y axis=2.0", "attribute `axis` must be of type int, but is float"),
        ("node Unsqueeze x > y axes=[0,0]", "axis 0 is given twice"),
        (
            "node Add x,i > y",
            "inputs 0 and 1 must have one element type, but are f32[2, 3] and i64[2]",
        ),
        ("node Pad x,i > y mode='none'", "mode `none` is not known"),
        ("node Relu x,x > y", "takes at most 1 inputs, 2 are given"),
        ("node Relu x > y slope=1", "has no attribute `slope` in this version"),
        ("node Expand x,k > y", "the shape to expand to must have 1 dimension, but is i64[]"),
        (
            "node MaxPool x > y kernel_shape=[2]",
            "the operand must have batch, channels and spatial dimensions",
        ),
        ("node Cast x > y", "attribute `to` is missing"),
        (
            "node MatMul x,x > y",
            "dimension `k` of mk,kn->mn in f32[2, 3] and f32[2, 3]: 3 and 2 differ",
        ),
        ("node Split x > y,z axis=1 split=[1,1]", "parts of 2 in all do not make up 3"),
        ("node Constant > y", "a constant must have exactly one attribute"),
        ("node Squeeze x > y axes=[1]", "axis 1 has size 3 and cannot be dropped"),
    ] {
        let text = format!(
            "case rules opset 11\ninput x f32[2,3] wave\ninput i i64[2] 1 2\n\
             input k i64[] 1\n{lines}\noutput y"
        );
        let found = report(&case(&text).model, &[]);
        wrong.extend((found != [format!("malformed: y: {expected}")]).then_some((lines, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn uses_that_break_the_rules_of_training_and_learning() {
    let mut wrong = Vec::new();
    for (lines, expected) in [
        (
            "node NegativeLogLikelihoodLoss x,i > y reduction='most'",
            "reduction `most` is not known",
        ),
        ("node NegativeLogLikelihoodLoss x,x > y", "input 1 must be i32 or i64, but is f32[2, 3]"),
        (
            "node SoftmaxCrossEntropyLoss v,i > y",
            "the scores must have batch and class dimensions, but are f32[3]",
        ),
        ("node Dropout x,v,i > y", "input 2 must be bool, but is i64[2]"),
        ("node RandomUniform > y shape=[-1]", "the shape has a dimension of -1"),
        ("node RandomNormal > y", "attribute `shape` is missing"),
        ("node Multinomial v > y", "the operand must be a matrix, but is f32[3]"),
        (
            "node ai.onnx.preview.training:Adam v,i,x > y",
            "1 tensors are not 4 for each optimised one",
        ),
        ("node ai.onnx.preview.training:Momentum s,n,x,x,x > y", "attribute `alpha` is missing"),
        (
            "node ai.onnx.preview.training:Gradient x > y xs=['x'] y='z'",
            "there is no tensor `z` before the node",
        ),
        (
            "node ai.onnx.preview.training:Gradient x,v > y xs=['x'] y='x'",
            "2 inputs are given for 1 names",
        ),
        (
            "node ai.onnx.ml:LinearRegressor x > y coefficients=[1.0,2.0] targets=3",
            "2 coefficients do not make 3 rows",
        ),
        (
            "node ai.onnx.ml:Scaler x > y scale=[1.0,2.0]",
            "2 numbers of `scale` are given for 3 features",
        ),
        (
            "node ai.onnx.ml:OneHotEncoder x > y cats_strings=['a']",
            "there are no categories for f32[2, 3]",
        ),
        (
            "node ai.onnx.ml:LabelEncoder x > y keys_strings=['a'] values_int64s=[1]",
            "keys of string are given for an operand of f32",
        ),
        ("node ai.onnx.ml:Normalizer x > y norm='L3'", "norm `L3` is not known"),
        (
            "node ai.onnx.ml:TreeEnsembleRegressor x > y nodes_treeids=[0]",
            "the attributes of nodes differ in length: [1, 0, 0, 0, 0, 0, 0]",
        ),
        (
            "node ai.onnx.ml:TreeEnsembleRegressor x > y nodes_treeids=[0,0] nodes_nodeids=[0,1] \
             nodes_featureids=[0,0] nodes_truenodeids=[0,0] nodes_falsenodeids=[1,0] \
             nodes_values=[1.0,0.0] nodes_modes=['BRANCH_LT','LEAF']",
            "a path through a tree does not end",
        ),
        (
            "node ai.onnx.ml:TreeEnsembleRegressor x > y nodes_treeids=[0,0] nodes_nodeids=[0,1] \
             nodes_featureids=[3,0] nodes_truenodeids=[1,0] nodes_falsenodeids=[1,0] \
             nodes_values=[1.0,0.0] nodes_modes=['BRANCH_LT','LEAF']",
            "there is no feature 3 in f32[2, 3]",
        ),
    ] {
        let text = format!(
            "case rules opset 17\ninput x f32[2,3] wave\ninput i i64[2] 1 2\ninput v f32[3] wave\n\
             input s f32[] 1\ninput n i64[] 1\n{lines}\noutput y"
        );
        let found = report(&case(&text).model, &[]);
        wrong.extend((found != [format!("malformed: y: {expected}")]).then_some((lines, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn operands_before_opset_7_that_do_not_meet() {
    let mut wrong = Vec::new();
    for (lines, expected) in [
        (
            "node Add x,v > y",
            "f32[2, 3] and f32[3] must have one shape: opset 6 does not stretch them by itself",
        ),
        ("node Add x,v > y broadcast=1 axis=0", "f32[3] does not stretch to f32[2, 3] there"),
        ("node Add v,x > y broadcast=1", "f32[2, 3] does not stretch to f32[3] there"),
        ("node Add x,v > y broadcast=1 axis=2", "axis 2 does not exist in a tensor of rank 2"),
        ("node Reshape x > y", "input 1 is missing, 1 are given"),
    ] {
        let text = format!(
            "case old opset 6\ninput x f32[2,3] wave\ninput v f32[3] wave\n{lines}\noutput y"
        );
        let found = report(&case(&text).model, &[]);
        wrong.extend((found != [format!("malformed: y: {expected}")]).then_some((lines, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn conversions_that_break_the_rules() {
    let mut wrong = Vec::new();
    for (lines, expected) in [
        (
            "node BitCast x > y to=22",
            "the bits of f32[2] are not those of i4 elements, which are 4 bits wide, not 32",
        ),
        ("node Cast x > y to=15", "there is no conversion of f32[2] to c128"),
        ("node Cast x > y to=24 round_mode='odd'", "round_mode `odd` is not known"),
        ("node Gather x,s > y", "input 1 must be i32 or i64, but is f32[]"),
        ("node Not x > y", "input 0 must be bool, but is f32[2]"),
        (
            "node Relu f > y",
            "input 0 must be i8, i16, i32, i64, f16, bf16, f32 or f64, but is f8e5m2[2]",
        ),
        (
            "node QuantizeLinear x,s,i > y output_dtype=2",
            "the zero point is i4, but output_dtype is u8",
        ),
        ("node QuantizeLinear x,s > y precision=2", "precision u8 is no floating-point type"),
        (
            "node DequantizeLinear i,s,f > y",
            "inputs 0 and 2 must have one element type, but are i4[2] and f8e5m2[2]",
        ),
        ("node DequantizeLinear i,e > y", "output_dtype must say what the result is, not f8e8m0"),
    ] {
        let text = format!(
            "case rules opset 28\ninput x f32[2] wave\ninput i i4[2] 1 2\ninput f f8e5m2[2] 1 2\n\
             input c c64[2] 1 2\ninput s f32[] 1\ninput e f8e8m0[] 1\n{lines}\noutput y"
        );
        let found = report(&case(&text).model, &[]);
        wrong.extend((found != [format!("malformed: y: {expected}")]).then_some((lines, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn patterns_are_read_before_a_model_runs() {
    let mut wrong = Vec::new();
    for (pattern, expected) in [
        ("(", "unclosed group"),
        ("a)|(b", "unopened group"),
        ("a**", "a repetition is repeated without a group around it"),
        (r"\u0061", r"`\u` is no escape"),
        ("[[:letter:]]", "`[:letter:]` is no class of characters"),
    ] {
        let text = format!(
            "case text opset 20\ninput x f32[2] wave\nnode Cast x > s to=8\n\
             node RegexFullMatch s > y pattern='{pattern}'\noutput y"
        );
        let found = report(&case(&text).model, &[]);
        let expected = format!("malformed: y: the pattern cannot be used: {expected}");
        wrong.extend((found != [expected]).then_some((pattern, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn uses_of_microsoft_operators_that_break_their_rules() {
    let mut wrong = Vec::new();
    for (lines, expected) in [
        ("Attention x,w > y", "malformed: attribute `num_heads` is missing"),
        (
            "Attention x,w > y num_heads=2 do_rotary=1",
            "unsupported-use: rotary embedding or shared buffers inside",
        ),
        ("MultiHeadAttention x > y num_heads=2", "malformed: input 1 is missing, 1 are given"),
        (
            "Attention x,w,_,m > y num_heads=2",
            "unsupported-use: a mask of 3 numbers is not one for each of 1",
        ),
        (
            "GroupQueryAttention x,x,_,_,_,m,m > y num_heads=2 kv_num_heads=1",
            "malformed: key and value are given together or not at all",
        ),
        (
            "GroupQueryAttention x,_,_,_,_,m,m > y num_heads=2 kv_num_heads=1 \
             sliding_window_cache=1",
            "unsupported-use: chunks with padding or a window-sized cache",
        ),
        ("MatMulNBits x,b,s > y N=2 block_size=16", "malformed: attribute `K` is missing"),
        (
            "MatMulNBits x,b,s > y K=16 N=2 block_size=16 bits=3",
            "unsupported-use: numbers of 3 bits",
        ),
        ("FusedMatMul x,k > y", "malformed: a scalar cannot be multiplied as a matrix"),
        ("FusedGemm w,w > y transB=1 activation='Clip'", "malformed: Clip lacks parameter 0"),
        (
            "NhwcMaxPool w > y kernel_shape=[2]",
            "malformed: input 0 must be u8 or i8, but is f32[4, 12]",
        ),
        ("RotaryEmbedding w,m,w,w > y", "malformed: input 1 must be i64, but is i32[3]"),
        ("MoE w,w,x,_,x > y k=0", "unsupported-use: 0 experts for each token"),
        (
            "CropAndResize w,w,m,m > y",
            "malformed: the images must be floats of rank 4, not f32[4, 12]",
        ),
        (
            "GatherBlockQuantized b,m,s > y block_size=16",
            "malformed: scales f32[2] must have the rank of u8[2, 1, 8]",
        ),
        ("CDist w,w > y metric='cosine'", "unsupported-use: the metric `cosine`"),
        ("Inverse x > y", "unsupported-use: the inverse of f32[1, 2, 4]"),
        ("GroupNorm x,w,w > y activation=0", "malformed: attribute `groups` is missing"),
    ] {
        let text = format!(
            "case rules opset 21\ninput x f32[1,2,4] wave\ninput w f32[4,12] wave\ninput m \
             i32[3] 1 1 1\ninput k f32[] 1\ninput b u8[2,1,8] wave\ninput s f32[2] wave\nnode \
             com.microsoft:{lines}\noutput y"
        );
        let found = report(&case(&text).model, &[]);
        let (kind, rule) = expected.split_once(": ").unwrap();
        wrong.extend((found != [format!("{kind}: y: {rule}")]).then_some((lines, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn uses_that_are_not_supported() {
    for (lines, expected) in [
        (
            "node ai.onnx.preview.training:Gradient w > y xs=['w'] y='z'",
            "the gradient of the core operation WindowReduce is not supported",
        ),
        (
            "node AveragePool w > p,y kernel_shape=[2]",
            "only the first 1 of its outputs are supported",
        ),
        (
            "node Resize w,_,v > y coordinate_transformation_mode='tf_half_pixel_for_nn'",
            "coordinate mode `tf_half_pixel_for_nn` is not supported",
        ),
        ("node Reshape x,s > y", "how many dimensions there are must be known, but is `r`"),
    ] {
        let text = format!(
            "case uses opset 15\ninput x f32[2,3] wave\ninput s i64[r=2] 1 2\ninput w f32[1,2,4] \
             wave\nconst v f32[3] 1 1 2\nnode AveragePool w > z kernel_shape=[2]\n{lines}\noutput y"
        );
        let found = report(&case(&text).model, &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with(&format!(": {expected}")), "{found:?}");
        assert!(found[0].starts_with("unsupported-use: "), "{found:?}");
    }
}

#[test]
fn uses_of_vision_and_signal_operators_that_break_the_rules() {
    let mut wrong = Vec::new();
    for (lines, expected) in [
        ("node GridSample x,v > y", "the grid f32[3] does not fit the image f32[1, 2, 4, 3]"),
        ("node GridSample x,x > y mode='nearer'", "mode `nearer` is not known"),
        ("node AffineGrid v,s > y", "f32[3] is no affine map of 2 dimensions"),
        ("node RoiAlign x,v,i > y", "regions must be rows of 4 floats, but are f32[3]"),
        (
            "node MaxRoiPool x,x > y pooled_shape=[1,1]",
            "regions must be rows of 5 floats, but are f32[1, 2, 4, 3]",
        ),
        ("node DeformConv x,x,x > y offset_group=3", "2 channels are not 3 groups of offsets"),
        ("node DFT v > y", "the signal must be floats with a dimension for parts, not f32[3]"),
        ("node DFT x > y", "the last dimension of f32[1, 2, 4, 3] must be 1 (real) or 2 (complex)"),
        ("node DFT x,_,three > y", "the last dimension holds parts and cannot be transformed"),
        ("node STFT x,i > y", "the signal must have rank 3: f32[1, 2, 4, 3]"),
        ("node HannWindow i > y", "the size of the window must be one number, but is i64[2]"),
        (
            "node MaxUnpool x,x > y kernel_shape=[2,2]",
            "input 1 must be i64, but is f32[1, 2, 4, 3]",
        ),
        (
            "node Col2Im x,i,i > y",
            "f32[1, 2, 4, 3] does not hold blocks of 2 dimensions for an image of 2",
        ),
        ("node CenterCropPad x,i > y", "2 sizes are given for 4 axes"),
        ("node Det x > y", "f32[1, 2, 4, 3] does not hold square matrices of floats"),
        ("node TfIdfVectorizer x > y", "attribute `max_gram_length` is missing"),
        (
            "node TfIdfVectorizer i > y mode='TF' min_gram_length=1 max_gram_length=3 \
             max_skip_count=0 ngram_counts=[0] ngram_indexes=[0] pool_int64s=[1]",
            "`max_gram_length` is 3, but `ngram_counts` ends at 1",
        ),
    ] {
        let text = format!(
            "case rules opset 20\ninput x f32[1,2,4,3] wave\nconst v f32[3] wave\nconst three \
             i64[] 3\nconst s i64[4] 1 1 2 2\nconst i i64[2] 1 2\n{lines}\noutput y"
        );
        let found = report(&case(&text).model, &[]);
        wrong.extend((found != [format!("malformed: y: {expected}")]).then_some((lines, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (lines, expected) in [
        ("node SwiGLU x,v > y", "f32[1, 2, 4, 3] and f32[3] must be of one type"),
        ("node TensorScatter x,v > y", "the update f32[3] does not fit the cache f32[1, 2, 4, 3]"),
        ("node TensorScatter x,x > y axis=0", "the axis must not be that of batches"),
        (
            "node CausalConvWithState x,x > y,z",
            "f32[1, 2, 4, 3] and f32[1, 2, 4, 3] are no floats over [batch, channels, length] and \
             filters [channels, 1, length] for them",
        ),
        (
            "node LinearAttention x,x,x > y,z q_num_heads=1 kv_num_heads=1",
            "update rule `gated_delta` needs `decay`",
        ),
    ] {
        let text = format!(
            "case rules opset 28\ninput x f32[1,2,4,3] wave\ninput v f32[3] wave\n{lines}\n\
             output y"
        );
        let found = report(&case(&text).model, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(expected), "{found:?}");
    }
}

/// A model of one input with this type.
fn of_input(ty: Option<TypeProto>) -> ModelProto {
    let mut model = case("case input opset 17\nnode Neg x > y\noutput y").model;
    let input = ValueInfoProto { name: Some("x".to_owned()), r#type: ty, ..Default::default() };
    model.graph.as_mut().unwrap().input.push(input);
    model
}

#[test]
fn inputs_that_cannot_be_used() {
    let tensor = |elem_type: i32| TypeProto {
        value: Some(type_proto::Value::TensorType(type_proto::Tensor {
            elem_type: Some(elem_type),
            shape: None,
        })),
        ..Default::default()
    };
    let sequence = TypeProto {
        value: Some(type_proto::Value::SequenceType(Default::default())),
        ..Default::default()
    };
    for (ty, expected) in [
        (None, "malformed: input `x`: it has no type"),
        (
            Some(tensor(1)),
            "unsupported-use: input `x`: it has no shape, not even a number of dimensions",
        ),
        (Some(tensor(99)), "tensor: input `x`: 99 is not the number of an element type"),
        (Some(sequence), "malformed: input `x`: the type of its elements is missing"),
    ] {
        assert_eq!(report(&of_input(ty), &[]), [expected]);
    }
}

#[test]
fn tensors_and_functions_that_cannot_be_used() {
    let mut model = case("case f opset 17\nconst w f32[2] 1\nnode f:F w > y\noutput y").model;
    model.opset_import.push(kiln_frontend::proto::OperatorSetIdProto {
        domain: Some("f".to_owned()),
        version: Some(1),
    });
    model.functions.push(FunctionProto {
        name: Some("F".to_owned()),
        domain: Some("f".to_owned()),
        ..Default::default()
    });
    let graph: &mut GraphProto = model.graph.as_mut().unwrap();
    graph.initializer[0].dims = vec![3];
    assert_eq!(
        report(&model, &[]),
        [
            "function: y: the function takes 0 inputs, 1 are given",
            "tensor: initializer `w`: type and dimensions ask for 12 bytes, the data has 8",
        ]
    );
}

#[test]
fn an_output_of_another_type_than_declared() {
    let text = "case declared opset 17\ninput x f32[2] wave\nnode Neg x > y\noutput y";
    let mut model = case(text).model;
    let graph = model.graph.as_mut().unwrap();
    let mut declared = graph.input[0].clone();
    declared.name = Some("y".to_owned());
    graph.output[0] = declared.clone();
    assert_eq!(report(&model, &[]), ["imported"]);
    let Some(type_proto::Value::TensorType(tensor)) =
        declared.r#type.as_mut().and_then(|ty| ty.value.as_mut())
    else {
        panic!("no tensor");
    };
    tensor.elem_type = Some(7);
    model.graph.as_mut().unwrap().output[0] = declared;
    assert_eq!(report(&model, &[]), ["malformed: output `y`: it is declared i64, but is f32[2]"]);
}

#[test]
fn a_declared_rank_that_a_new_axis_does_not_leave_room_for() {
    let text = "case joined opset 17\nnode SequenceEmpty > s\n\
                node ConcatFromSequence s > y axis=0 new_axis=1\noutput y";
    let mut model = case(text).model;
    let scalar = case("case scalar opset 17\ninput y f32[] 1\nnode Neg y > z\noutput z").model;
    let scalar = scalar.graph.unwrap().input.remove(0);
    model.graph.as_mut().unwrap().output[0] = scalar;
    let unknown = "how many dimensions the elements of the sequence have is not known";
    assert_eq!(report(&model, &[]), [format!("unsupported-use: y: {unknown}")]);
}

#[test]
fn two_outputs_of_one_name() {
    check(
        "case twice opset 17\ninput x f32[2] wave\nnode Neg x > y\noutput y\noutput y",
        &["malformed: output `y`: the graph has another output of that name"],
    );
}

#[test]
fn open_dimensions_are_fixed_by_any_of_their_names() {
    let text = "case open opset 17
                input x f32[batch size=2,=3,?=4] wave
                node Neg x > y
                output y"
        .replace("batch size", "batch+size");
    let model = case(&text).model;
    let ty = |dims: &[(&str, u64)]| {
        let graph = imported(&model, dims).unwrap();
        graph.ty(graph.outputs()[0]).to_string()
    };
    assert_eq!(ty(&[]), "f32[batch_size, x_1, x_2]");
    assert_eq!(ty(&[("batch+size", 7)]), "f32[7, x_1, x_2]");
    assert_eq!(ty(&[("batch_size", 7), ("x_2", 5)]), "f32[7, x_1, 5]");
    let report = imported(&model, &[("height", 3), ("x_1", 1)]).unwrap_err();
    let [problem] = report.problems.as_slice() else { panic!("{report}") };
    assert_eq!(problem.kind, ProblemKind::Option);
    assert_eq!(problem.message, "the model has no open dimension `height`");
    assert_eq!(problem.help, "its open dimensions are batch+size, x_1, x_2");
}

#[test]
fn names_that_differ_in_the_model_differ_in_the_graph() {
    let text = "case names opset 17
                input x f32[a+b=2,a-b=3] wave
                node Neg x > y
                output y";
    let graph = imported(&case(text).model, &[]).unwrap();
    assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "f32[a_b, a_b_2]");
}

#[test]
fn nodes_and_values_keep_their_names() {
    let text = "case names opset 17\ninput x f32[2] wave\nnode Neg x > y\nnode Abs y > z\noutput z";
    let mut model = case(text).model;
    let node: &mut NodeProto = &mut model.graph.as_mut().unwrap().node[0];
    node.name = Some("negation".to_owned());
    let graph = imported(&model, &[]).unwrap();
    let nodes: Vec<_> = graph.nodes().map(|(_, node)| node.source.as_deref().unwrap()).collect();
    assert_eq!(nodes, ["negation", "z"]);
    let (_, first) = graph.nodes().next().unwrap();
    assert_eq!(graph.value(first.outputs[0]).name.as_deref(), Some("y"));
}

#[test]
fn the_table_has_each_operator_with_its_versions() {
    let find = |name: &str| operators().into_iter().find(|operator| operator.name == name).unwrap();
    assert_eq!((find("Upsample").first, find("Upsample").last), (1, 9));
    assert_eq!((find("Gelu").domain, find("Gelu").first), ("ai.onnx", 20));
    assert_eq!(find("BiasGelu").domain, "com.microsoft");
}
