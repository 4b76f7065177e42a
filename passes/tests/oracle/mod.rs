#![allow(dead_code)]
use kiln_ir::Graph;
use kiln_ir::op::*;
use kiln_tensor::{DType, Tensor};
use std::collections::BTreeMap;

type T = (Vec<usize>, Vec<f64>);

fn idx(sizes: &[usize]) -> Vec<Vec<usize>> {
    let n: usize = sizes.iter().product();
    (0..n)
        .map(|mut f| {
            let mut v = vec![0; sizes.len()];
            for d in (0..sizes.len()).rev() {
                v[d] = f % sizes[d];
                f /= sizes[d];
            }
            v
        })
        .collect()
}
fn at(t: &T, i: &[usize]) -> f64 {
    let mut f = 0;
    for (d, &x) in i.iter().enumerate() {
        f = f * t.0[d] + x;
    }
    t.1[f]
}
fn bc(t: &T, i: &[usize]) -> f64 {
    let o = i.len() - t.0.len();
    let j: Vec<usize> =
        t.0.iter().enumerate().map(|(d, &s)| if s == 1 { 0 } else { i[o + d] }).collect();
    at(t, &j)
}
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let mut s = 0.0;
    let n = 2000;
    let h = x / n as f64;
    if x.abs() > 6.0 {
        return x.signum();
    }
    for k in 0..=n {
        let w = if k == 0 || k == n {
            1.0
        } else if k % 2 == 1 {
            4.0
        } else {
            2.0
        };
        let t = h * k as f64;
        s += w * (-t * t).exp();
    }
    s * h / 3.0 * 2.0 / std::f64::consts::PI.sqrt()
}
fn un(f: UnaryFn, x: f64) -> f64 {
    use UnaryFn::*;
    match f {
        Neg => -x,
        Abs => x.abs(),
        Exp => x.exp(),
        Sqrt => x.sqrt(),
        Rsqrt => 1.0 / x.sqrt(),
        Reciprocal => 1.0 / x,
        Tanh => x.tanh(),
        Erf => erf(x),
        Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Floor => x.floor(),
        IsNan => x.is_nan() as u8 as f64,
        Relu => {
            if x.is_nan() {
                x
            } else {
                x.max(0.0)
            }
        }
        Gelu => x * (1.0 + erf(x / 2f64.sqrt())) / 2.0,
        GeluTanh => {
            x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
                / 2.0
        }
        Silu => x / (1.0 + (-x).exp()),
        Log => x.ln(),
        _ => panic!("{f:?}"),
    }
}
fn nanmax(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
fn bi(f: BinaryFn, a: f64, b: f64) -> f64 {
    use BinaryFn::*;
    match f {
        Add => a + b,
        Sub => a - b,
        Mul => a * b,
        Div => a / b,
        Pow => a.powf(b),
        Max => nanmax(a, b),
        Min => -nanmax(-a, -b),
        Less => (a < b) as u8 as f64,
        _ => panic!("{f:?}"),
    }
}
fn pos(i: &[usize], l: &[u8], all: &[u8]) -> Vec<usize> {
    l.iter().map(|x| i[all.iter().position(|y| y == x).unwrap()]).collect()
}
fn tr(x: &T, p: &[usize]) -> T {
    let s: Vec<usize> = p.iter().map(|&d| x.0[d]).collect();
    let v = idx(&s)
        .iter()
        .map(|i| {
            let mut j = vec![0; p.len()];
            for (a, &b) in p.iter().enumerate() {
                j[b] = i[a];
            }
            at(x, &j)
        })
        .collect();
    (s, v)
}
fn contract(spec: &ContractSpec, a: &T, b: &T) -> T {
    let k = spec.summed();
    let mut size = BTreeMap::new();
    for (l, &s) in spec.lhs.iter().zip(&a.0).chain(spec.rhs.iter().zip(&b.0)) {
        size.insert(*l, s);
    }
    let s: Vec<usize> = spec.out.iter().map(|l| size[l]).collect();
    let ks: Vec<usize> = k.iter().map(|l| size[l]).collect();
    let all = [&spec.out[..], &k].concat();
    let v = idx(&s)
        .iter()
        .map(|o| {
            idx(&ks)
                .iter()
                .map(|r| {
                    let i = [&o[..], r].concat();
                    at(a, &pos(&i, &spec.lhs, &all)) * at(b, &pos(&i, &spec.rhs, &all))
                })
                .sum()
        })
        .collect();
    (s, v)
}
pub fn evaluate(op: &Op, regions: &[Graph], inputs: &[Tensor]) -> Tensor {
    let tys: Vec<_> = inputs.iter().map(kiln_ir::TensorType::of).collect();
    let refs: Vec<_> = tys.iter().collect();
    let ty = op.infer(&refs, regions).unwrap().remove(0);
    let out = ty.static_sizes().unwrap();
    let x: Vec<T> = inputs.iter().map(|t| (t.sizes().to_vec(), t.to_f64())).collect();
    let map =
        |f: &dyn Fn(&[usize]) -> f64| -> Vec<f64> { idx(&out).iter().map(|i| f(i)).collect() };
    let u = |d: &kiln_tensor::Dim| d.as_const().unwrap();
    let v: Vec<f64> = match op {
        Op::Constant(c) => return c.tensor.clone(),
        Op::Unary(o) => x[0].1.iter().map(|&v| un(o.f, v)).collect(),
        Op::Binary(o) => map(&|i| bi(o.f, bc(&x[0], i), bc(&x[1], i))),
        Op::Select(_) => map(&|i| if bc(&x[0], i) != 0.0 { bc(&x[1], i) } else { bc(&x[2], i) }),
        Op::Cast(_) | Op::Reshape(_) => {
            x[0].1
                .iter()
                .map(|v| {
                    if ty.dtype.is_integer() {
                        if v.is_nan() { 0.0 } else { v.trunc() }
                    } else {
                        *v
                    }
                })
                .collect()
        }
        Op::Transpose(o) => tr(&x[0], &o.perm).1,
        Op::Broadcast(_) => map(&|i| bc(&x[0], i)),
        Op::Slice(o) => map(&|i| {
            let j: Vec<usize> = i
                .iter()
                .enumerate()
                .map(|(d, &p)| (u(&o.starts[d]) + o.steps[d] * p as i64) as usize)
                .collect();
            at(&x[0], &j)
        }),
        Op::Concat(o) => map(&|i| {
            let mut j = i.to_vec();
            for t in &x {
                if j[o.axis] < t.0[o.axis] {
                    return at(t, &j);
                }
                j[o.axis] -= t.0[o.axis];
            }
            0.0
        }),
        Op::Pad(o) => map(&|i| {
            let j: Vec<i64> =
                i.iter().enumerate().map(|(d, &p)| p as i64 - u(&o.before[d])).collect();
            if j.iter().zip(&x[0].0).all(|(&p, &s)| p >= 0 && p < s as i64) {
                at(&x[0], &j.iter().map(|&p| p as usize).collect::<Vec<_>>())
            } else {
                x[1].1[0]
            }
        }),
        Op::Reduce(o) => {
            let rs: Vec<usize> = o.axes.iter().map(|&a| x[0].0[a]).collect();
            let n: usize = rs.iter().product();
            map(&|i| {
                let vals = idx(&rs).into_iter().map(|r| {
                    let mut j = vec![0; x[0].0.len()];
                    let mut it = i.iter();
                    for d in 0..j.len() {
                        if let Some(p) = o.axes.iter().position(|&a| a == d) {
                            j[d] = r[p];
                            if o.keep {
                                it.next();
                            }
                        } else {
                            j[d] = *it.next().unwrap();
                        }
                    }
                    at(&x[0], &j)
                });
                match o.f {
                    ReduceFn::Sum => vals.sum(),
                    ReduceFn::Mean => vals.sum::<f64>() / n as f64,
                    ReduceFn::Max => vals.fold(f64::NEG_INFINITY, nanmax),
                    ReduceFn::Min => vals.fold(f64::INFINITY, |a, b| -nanmax(-a, -b)),
                    _ => panic!(),
                }
            })
        }
        Op::WindowReduce(o) => map(&|i| {
            let mut c = 0;
            let vals: Vec<f64> = idx(&o.window)
                .into_iter()
                .filter_map(|w| {
                    let j: Vec<i64> = (0..i.len())
                        .map(|d| (i[d] * o.strides[d] + w[d] * o.dilations[d]) as i64 - o.before[d])
                        .collect();
                    c += 1;
                    j.iter()
                        .zip(&x[0].0)
                        .all(|(&p, &s)| p >= 0 && p < s as i64)
                        .then(|| at(&x[0], &j.iter().map(|&p| p as usize).collect::<Vec<_>>()))
                })
                .collect();
            match o.f {
                WindowFn::Max => vals.into_iter().fold(f64::NEG_INFINITY, nanmax),
                WindowFn::Sum => vals.iter().sum(),
                WindowFn::Mean { .. } => vals.iter().sum::<f64>() / c as f64,
            }
        }),
        Op::Contract(o) => contract(&o.spec, &x[0], &x[1]).1,
        Op::Conv(o) => {
            let r = x[0].0.len();
            let (a, w, back) = match o.layout {
                ConvLayout::ChannelsFirst => (x[0].clone(), x[1].clone(), None),
                ConvLayout::ChannelsLast => {
                    let p: Vec<usize> = [0, r - 1].into_iter().chain(1..r - 1).collect();
                    let q: Vec<usize> = [r - 1, r - 2].into_iter().chain(0..r - 2).collect();
                    (
                        tr(&x[0], &p),
                        tr(&x[1], &q),
                        Some([0].into_iter().chain(2..r).chain([1]).collect::<Vec<usize>>()),
                    )
                }
            };
            let sp: Vec<usize> = match o.layout {
                ConvLayout::ChannelsFirst => out[2..].to_vec(),
                ConvLayout::ChannelsLast => out[1..r - 1].to_vec(),
            };
            let (n, m, cg) = (a.0[0], w.0[0], w.0[1]);
            let s = [&[n, m][..], &sp].concat();
            let v: Vec<f64> = idx(&s)
                .iter()
                .map(|i| {
                    let g = i[1] / (m / o.groups);
                    let ks = [&[cg][..], &w.0[2..]].concat();
                    idx(&ks)
                        .iter()
                        .map(|k| {
                            let mut j = vec![i[0], g * cg + k[0]];
                            for d in 0..sp.len() {
                                let p = (i[2 + d] * o.strides[d] + k[1 + d] * o.dilations[d])
                                    as i64
                                    - o.before[d];
                                if p < 0 || p >= a.0[2 + d] as i64 {
                                    return 0.0;
                                }
                                j.push(p as usize);
                            }
                            at(&a, &j) * at(&w, &[&[i[1]][..], k].concat())
                        })
                        .sum()
                })
                .collect();
            match back {
                None => v,
                Some(p) => tr(&(s, v), &p).1,
            }
        }
        Op::ConvTranspose(o) => {
            assert_eq!(o.groups, 1);
            let mut y = (out.clone(), vec![0.0; out.iter().product()]);
            for i in idx(&x[0].0) {
                for k in idx(&x[1].0[1..]) {
                    let mut j = vec![i[0], k[0]];
                    let mut ok = true;
                    for d in 0..i.len() - 2 {
                        let p = (i[2 + d] * o.strides[d] + k[1 + d] * o.dilations[d]) as i64
                            - o.before[d];
                        ok &= p >= 0 && p < out[2 + d] as i64;
                        j.push(p.max(0) as usize);
                    }
                    if ok {
                        let mut f = 0;
                        for (d, &p) in j.iter().enumerate() {
                            f = f * out[d] + p;
                        }
                        y.1[f] += at(&x[0], &i) * at(&x[1], &[&[i[1]][..], &k].concat());
                    }
                }
            }
            y.1
        }
        Op::Resize(o) => map(&|i| {
            // per-dimension linear or floor nearest, half pixel
            let mut acc: Vec<(Vec<usize>, f64)> = vec![(vec![], 1.0)];
            for d in 0..i.len() {
                let (s, t) = (x[0].0[d], out[d]);
                let mut next = vec![];
                if s == t {
                    for (j, w) in acc {
                        next.push(([&j[..], &[i[d]]].concat(), w));
                    }
                    acc = next;
                    continue;
                }
                let c = (i[d] as f64 + 0.5) * s as f64 / t as f64 - 0.5;
                for (j, w) in acc {
                    match o.mode {
                        ResizeMode::Linear => {
                            let f = c.floor();
                            let l = (f.max(0.0) as usize).min(s - 1);
                            let h = ((f + 1.0).max(0.0) as usize).min(s - 1);
                            next.push(([&j[..], &[l]].concat(), w * (1.0 - (c - f))));
                            next.push(([&j[..], &[h]].concat(), w * (c - f)));
                        }
                        _ => {
                            let l = (c.floor().max(0.0) as usize).min(s - 1);
                            next.push(([&j[..], &[l]].concat(), w));
                        }
                    }
                }
                acc = next;
            }
            let mut sum = 0.0;
            for (j, w) in acc {
                if w != 0.0 {
                    sum += at(&x[0], &j) * w;
                }
            }
            sum
        }),
        Op::Softmax(o) => map(&|i| {
            let row: Vec<f64> = (0..out[o.axis])
                .map(|k| {
                    let mut j = i.to_vec();
                    j[o.axis] = k;
                    at(&x[0], &j)
                })
                .collect();
            let m = row.iter().copied().fold(f64::NEG_INFINITY, nanmax);
            (at(&x[0], i) - m).exp() / row.iter().map(|v| (v - m).exp()).sum::<f64>()
        }),
        Op::Normalize(o) => map(&|i| {
            let tail = &out[o.axis..];
            let row: Vec<f64> =
                idx(tail).iter().map(|k| at(&x[0], &[&i[..o.axis], k].concat())).collect();
            let n = row.len() as f64;
            let m = if o.center { row.iter().sum::<f64>() / n } else { 0.0 };
            let var = row.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / n;
            let mut y = (at(&x[0], i) - m) / (var + o.epsilon).sqrt();
            if x.len() > 1 {
                y *= at(&x[1], &i[o.axis..]);
            }
            if x.len() > 2 {
                y += at(&x[2], &i[o.axis..]);
            }
            y
        }),
        Op::Attention(o) => map(&|i| {
            let t = x[1].0[2];
            let d = x[0].0[3];
            let hk = i[1] / (x[0].0[1] / x[1].0[1]);
            let s: Vec<f64> = (0..t)
                .map(|k| {
                    (0..d)
                        .map(|c| at(&x[0], &[i[0], i[1], i[2], c]) * at(&x[1], &[i[0], hk, k, c]))
                        .sum::<f64>()
                        * o.scale
                        + if x.len() > 3 { bc(&x[3], &[i[0], i[1], i[2], k]) } else { 0.0 }
                })
                .collect();
            let m = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let z: f64 = s.iter().map(|v| (v - m).exp()).sum();
            s.iter()
                .enumerate()
                .map(|(k, v)| (v - m).exp() / z * at(&x[2], &[i[0], hk, k, i[3]]))
                .sum()
        }),
        Op::Fused(_) => return run(&regions[0], inputs).remove(0),
        op => panic!("{op:?}"),
    };
    Tensor::from_f64(ty.dtype, out, &v).unwrap()
}
pub fn run(g: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let v = values(g, inputs);
    g.outputs().iter().map(|o| v[o.0 as usize].clone().unwrap()).collect()
}
pub fn values(g: &Graph, inputs: &[Tensor]) -> Vec<Option<Tensor>> {
    let mut v: Vec<Option<Tensor>> = vec![None; g.value_count()];
    for (&i, t) in g.inputs().iter().zip(inputs) {
        v[i.0 as usize] = Some(t.clone());
    }
    for (_, n) in g.nodes() {
        let a: Vec<Tensor> = n.inputs.iter().map(|i| v[i.0 as usize].clone().unwrap()).collect();
        v[n.outputs[0].0 as usize] = Some(evaluate(&n.op, &n.regions, &a));
    }
    v
}
