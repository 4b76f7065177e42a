"""The operators of ai.onnx.ml: features, labels, maps, linear models, support vectors and trees."""

import numpy as np

from .draw import Closeness, Drawn, Random, draws, node

LEARNING = "ai.onnx.ml"
# Sums of some ten terms in another order, then exponentials and quotients of them.
SCORES = Closeness(1e-4, 1e-5)
WORDS = ["", "a", "b", "bee", "cat", "dog", "Äpfel", "zz"]
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")
NAMES: set[str] = set()


def learned(name: str, count: int = 8, closeness: Closeness = SCORES):
    NAMES.add(name)
    return draws(name, count, closeness)


def of_learning(op: str, inputs: list, outputs=1, **attributes) -> Drawn:
    return node(op, inputs, outputs, domain=LEARNING, attributes=attributes)


def words(g: Random, count: int) -> list[str]:
    return [str(word) for word in g.generator.permutation(WORDS)[:count]]


def whole(g: Random, count: int) -> list[int]:
    return [int(number) for number in g.generator.permutation(20)[:count] - 6]


def labels(g: Random, count: int, ints: str = "classlabels_int64s", strings: str = "classlabels_strings") -> dict:
    return {strings: words(g, count)} if g.maybe() else {ints: whole(g, count)}


def rows(g: Random, columns: int, *types) -> np.ndarray:
    """Rows of features; sometimes none, sometimes whole numbers."""
    dtype = np.dtype(g.pick(*types) if types else np.float32)
    shape = (g.pick(0, 1, 3, 5), columns)
    return g.integers(dtype, *shape, least=-5, most=5) if dtype.kind == "i" else g.floats(*shape, dtype=dtype, span=3)


def mapping(g: Random, value) -> dict:
    keys = words(g, g.size(1, 6)) if g.maybe() else whole(g, g.size(1, 6))
    return {key: value(g) for key in keys}


@learned("ZipMap")
def zip_map(g: Random) -> Drawn:
    count = g.size(1, 5)
    x = g.floats(count) if g.maybe(0.2) else g.floats(g.size(1, 4), count)
    return of_learning("ZipMap", [x], **labels(g, count))


@learned("DictVectorizer")
def dict_vectorizer(g: Random) -> Drawn:
    value = g.pick(lambda g: g.number(-2, 2), lambda g: g.size(-9, 9))
    x = mapping(g, value)
    if isinstance(next(iter(x)), str):
        return of_learning("DictVectorizer", [x], string_vocabulary=words(g, g.size(1, 6)))
    return of_learning("DictVectorizer", [x], int64_vocabulary=whole(g, g.size(1, 6)))


@learned("CastMap")
def cast_map(g: Random) -> Drawn:
    x = {key: g.number(-9, 9) for key in whole(g, g.size(1, 6))}
    # The others are written as C's printf does, which is not how ONNX casts.
    to = g.pick("TO_FLOAT", "TO_INT64")
    if g.maybe():
        return of_learning("CastMap", [x], cast_to=to)
    x = {abs(key): value for key, value in x.items()}
    return of_learning("CastMap", [x], cast_to=to, map_form="SPARSE", max_map=g.size(1, 12))


@learned("LabelEncoder", count=12)
def label_encoder(g: Random) -> Drawn:
    kinds = {
        "strings": (words, np.object_, "string", "none"),
        "int64s": (whole, np.int64, "int64", 77),
        "floats": (lambda g, count: [float(n) for n in whole(g, count)], np.float32, "float", 0.5),
    }
    keys, values = g.pick(*kinds), g.pick(*kinds)
    count = g.size(1, 6)
    attributes = {f"keys_{keys}": kinds[keys][0](g, count), f"values_{values}": kinds[values][0](g, count)}
    if g.maybe():
        attributes[f"default_{kinds[values][2]}"] = kinds[values][3]
    x = np.array(kinds[keys][0](g, 6), kinds[keys][1]).reshape(g.pick((6,), (2, 3), (3, 1, 2)))
    return of_learning("LabelEncoder", [x], **attributes)


@learned("CategoryMapper")
def category_mapper(g: Random) -> Drawn:
    strings, numbers = words(g, 5), whole(g, 5)
    x = np.array(words(g, 6), np.object_) if g.maybe() else np.array(whole(g, 6), np.int64)
    more = {"default_string": "none", "default_int64": 99} if g.maybe() else {}
    return of_learning("CategoryMapper", [x.reshape(2, 3)], cats_strings=strings, cats_int64s=numbers, **more)


@learned("OneHotEncoder")
def one_hot_encoder(g: Random) -> Drawn:
    if g.maybe():
        return of_learning("OneHotEncoder", [np.array(words(g, 6), np.object_).reshape(2, 3)],
                           cats_strings=words(g, 6), zeros=1)
    x = np.array(whole(g, 6), g.pick(np.int64, np.float32, np.int32, np.float64)).reshape(g.pick((6,), (2, 3)))
    return of_learning("OneHotEncoder", [x], cats_int64s=whole(g, 8), zeros=1)


@learned("Scaler")
def scaler(g: Random) -> Drawn:
    count = g.size(1, 5)
    x = rows(g, count, np.float32, np.float64, np.int32, np.int64)
    each = 1 if g.maybe(0.3) else count
    return of_learning("Scaler", [x], offset=g.floats(each).tolist(), scale=g.floats(each).tolist())


@learned("Normalizer")
def normalizer(g: Random) -> Drawn:
    x = rows(g, g.size(1, 5), np.float32, np.float64, np.int32, np.int64)
    return of_learning("Normalizer", [x], norm=g.pick("MAX", "L1", "L2"))


@learned("Imputer")
def imputer(g: Random) -> Drawn:
    count = g.size(1, 5)
    each = 1 if g.maybe(0.3) else count
    if g.maybe():
        x = g.floats(3, count, dtype=np.float32)
        x[g.generator.random(x.shape) < 0.4] = (missing := g.pick(np.nan, 0.0))
        return of_learning("Imputer", [x], imputed_value_floats=g.floats(each).tolist(), replaced_value_float=missing)
    x = g.integers(np.int64, 3, count, least=0, most=2)
    return of_learning("Imputer", [x], imputed_value_int64s=whole(g, each), replaced_value_int64=1)


@learned("Binarizer", count=4)
def binarizer(g: Random) -> Drawn:
    return of_learning("Binarizer", [g.floats(*g.sizes(g.size(1, 3), 1, 4))], threshold=g.number(-0.5, 0.5))


@learned("ArrayFeatureExtractor")
def array_feature_extractor(g: Random) -> Drawn:
    shape = g.sizes(g.size(1, 3), 1, 5)
    dtype = np.dtype(g.pick(np.float32, np.int64, np.object_))
    x = np.array([str(n) for n in range(int(np.prod(shape)))], np.object_).reshape(shape)
    x = x if dtype.kind == "O" else x.astype(dtype)
    return of_learning("ArrayFeatureExtractor", [x, g.integers(np.int64, g.size(1, 6), least=0, most=shape[-1] - 1)])


@learned("FeatureVectorizer")
def feature_vectorizer(g: Random) -> Drawn:
    count, widths = g.size(1, 4), g.sizes(g.size(1, 3), 1, 4)
    dtype = g.pick(np.float32, np.float64, np.int32, np.int64)
    inputs = [g.integers(np.int64, count, width, least=-9, most=9).astype(dtype) for width in widths]
    return of_learning("FeatureVectorizer", inputs, inputdimensions=widths)


@learned("LinearRegressor")
def linear_regressor(g: Random) -> Drawn:
    features, targets = g.size(1, 5), g.size(1, 4)
    given = {"intercepts": g.floats(targets).tolist()} if g.maybe(0.7) else {}
    return of_learning("LinearRegressor", [rows(g, features)], targets=targets,
                       coefficients=g.floats(targets * features).tolist(), post_transform="NONE", **given)


@learned("LinearClassifier", count=16)
def linear_classifier(g: Random) -> Drawn:
    features, classes = g.size(1, 5), g.size(2, 4)
    scores = 1 if classes == 2 and g.maybe() else classes
    transform = g.pick(*TRANSFORMS)
    return of_learning("LinearClassifier", [rows(g, features, np.float32, np.float64, np.int64, np.int32)], 2,
                       coefficients=g.floats(scores * features).tolist(), intercepts=g.floats(scores).tolist(),
                       multi_class=g.size(0, 1), post_transform=transform, **labels(g, classes, "classlabels_ints"))


def kernel(g: Random) -> dict:
    return {"kernel_type": g.pick("LINEAR", "POLY", "RBF", "SIGMOID"),
            "kernel_params": [g.number(0.1, 1), g.number(-1, 1), float(g.size(1, 3))]}


@learned("SVMRegressor")
def svm_regressor(g: Random) -> Drawn:
    features = g.size(1, 4)
    vectors = g.size(1, 6)
    return of_learning("SVMRegressor", [rows(g, features)], n_supports=vectors, one_class=g.size(0, 1),
                       support_vectors=g.floats(vectors * features).tolist(),
                       coefficients=g.floats(vectors).tolist(), rho=[g.number(-1, 1)], post_transform="NONE", **kernel(g))


@learned("SVMClassifier", count=16)
def svm_classifier(g: Random) -> Drawn:
    features, classes = g.size(1, 4), g.size(2, 4)
    each = g.sizes(classes, 1, 3)
    vectors, pairs = sum(each), classes * (classes - 1) // 2
    likely = {"prob_a": g.floats(pairs).tolist(), "prob_b": g.floats(pairs).tolist()} if g.maybe() else {}
    return of_learning("SVMClassifier", [rows(g, features, np.float32, np.float64)], 2, vectors_per_class=each,
                       support_vectors=g.floats(vectors * features).tolist(),
                       coefficients=g.floats((classes - 1) * vectors).tolist(), rho=g.floats(pairs).tolist(),
                       post_transform=g.pick(*TRANSFORMS), **likely, **kernel(g), **labels(g, classes, "classlabels_ints"))


def trees(g: Random, features: int, outcomes: list[int], prefix: str) -> dict:
    """A few trees, each split at random until it is three deep or chance ends it; leaves add to one or
    two of the outcomes."""
    lists = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                                   "falsenodeids", "missing_value_tracks_true")}
    leaves = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    modes = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
    one = g.pick(*modes[:2], None)
    missing = g.maybe(0.3)

    def grow(tree: int, depth: int) -> int:
        own = lists["treeids"].count(tree)
        is_leaf = depth == 3 or (depth > 0 and g.maybe(0.3))
        node = {"treeids": tree, "nodeids": own, "featureids": g.size(0, features - 1), "values": g.size(-8, 8) / 4,
                "modes": "LEAF" if is_leaf else one or g.pick(*modes), "truenodeids": 0, "falsenodeids": 0,
                "missing_value_tracks_true": int(missing and g.maybe())}
        place = len(lists["treeids"])
        for name, value in node.items():
            lists[name].append(value)
        if is_leaf:
            for outcome in sorted({g.pick(*outcomes) for _ in range(g.size(1, 2))}):
                for name, value in zip(leaves, (tree, own, outcome, g.number(-1, 1))):
                    leaves[name].append(value)
        else:
            lists["truenodeids"][place] = grow(tree, depth + 1)
            lists["falsenodeids"][place] = grow(tree, depth + 1)
        return own

    for tree in range(g.size(1, 4)):
        grow(tree, 0)
    if not missing:
        del lists["missing_value_tracks_true"]
    return {f"nodes_{name}": values for name, values in lists.items()} | {
        f"{prefix}_{name}": values for name, values in leaves.items()}


def measured(g: Random, features: int, *types) -> np.ndarray:
    """Rows in quarters, as thresholds are, so that some are met; and some are missing."""
    x = rows(g, features, *types)
    if x.dtype.kind != "f":
        return x
    x = (np.round(x * 4) / 4).astype(x.dtype)
    x[g.generator.random(x.shape) < 0.1] = np.nan
    return x


@learned("TreeEnsembleRegressor", count=16)
def tree_regressor(g: Random) -> Drawn:
    features, targets = g.size(1, 4), g.size(1, 3)
    aggregate = g.pick("SUM", "AVERAGE", "MIN", "MAX")
    # ONNX Runtime forgets the base of a target that no tree adds to, but not when it sums.
    based = aggregate == "SUM" and g.maybe()
    return of_learning("TreeEnsembleRegressor", [measured(g, features)], n_targets=targets,
                       aggregate_function=aggregate, post_transform=g.pick("NONE", "LOGISTIC", "SOFTMAX"),
                       **({"base_values": g.floats(targets).tolist()} if based else {}),
                       **trees(g, features, list(range(targets)), "target"))


@learned("TreeEnsembleClassifier", count=16)
def tree_classifier(g: Random) -> Drawn:
    features, classes = g.size(1, 4), g.size(2, 4)
    # Of two classes exporters score one; ONNX Runtime gives 0 or 1 for a label if both are scored.
    scored = [g.size(0, 1)] if classes == 2 else list(range(classes))
    base = {"base_values": g.floats(classes).tolist()} if classes > 2 and g.maybe() else {}
    return of_learning("TreeEnsembleClassifier", [measured(g, features, np.float32, np.float64, np.int64)], 2,
                       post_transform=g.pick(*TRANSFORMS), **base, **trees(g, features, scored, "class"),
                       **labels(g, classes))
