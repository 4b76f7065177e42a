//! Non-maximum suppression: boxes by falling score, without those that overlap a better one.
//!
//! Invariant: boxes are taken in the order of batch, class and falling score, equal ones by place.

use crate::{RoutineError, integer};
use kiln_tensor::{DType, Tensor};

/// `[low, high]` of both axes.
type Bounds = [[f32; 2]; 2];

pub(crate) fn suppress(
    [boxes, scores, most, iou, least]: &[Tensor; 5],
    centres: bool,
) -> Result<Tensor, RoutineError> {
    let (&[batches, count, 4], &[score_batches, classes, scored]) = (boxes.sizes(), scores.sizes())
    else {
        return Err(RoutineError::new("needs boxes [b, n, 4] and scores [b, c, n]"));
    };
    if (batches, count) != (score_batches, scored) {
        return Err(RoutineError::new(format!(
            "boxes {:?} and scores {:?} do not match",
            boxes.sizes(),
            scores.sizes()
        )));
    }
    let most = usize::try_from(integer(most, "how many boxes to take")?).unwrap_or(0);
    let (iou, least) = (number(iou)?, number(least)?);
    if !(0.0..=1.0).contains(&iou) {
        return Err(RoutineError::new(format!("the overlap {iou} is not between 0 and 1")));
    }
    let (boxes, scores) = (boxes.to_vec::<f32>()?, scores.to_vec::<f32>()?);
    let mut taken: Vec<i64> = Vec::new();
    for batch in 0..batches {
        let boxes: Vec<Bounds> = boxes[batch * count * 4..(batch + 1) * count * 4]
            .chunks_exact(4)
            .map(|corners| bounds(corners, centres))
            .collect();
        for class in 0..classes {
            let scores = &scores[(batch * classes + class) * count..][..count];
            let mut order: Vec<usize> =
                (0..count).filter(|&number| scores[number] > least).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            let mut kept: Vec<usize> = Vec::new();
            for number in order {
                if kept.len() >= most {
                    break;
                }
                if kept.iter().all(|&other| overlap(&boxes[other], &boxes[number]) <= iou) {
                    kept.push(number);
                    taken.extend([batch as i64, class as i64, number as i64]);
                }
            }
        }
    }
    Ok(Tensor::from_slice(vec![taken.len() / 3, 3], &taken)?)
}

fn number(tensor: &Tensor) -> Result<f32, RoutineError> {
    match (tensor.dtype(), &tensor.to_f64()[..]) {
        (DType::F32, [value]) => Ok(*value as f32),
        _ => Err(RoutineError::new("a threshold must be one f32")),
    }
}

/// Corners may be given in either order.
fn bounds(corners: &[f32], centres: bool) -> Bounds {
    let [a, b, c, d] = [corners[0], corners[1], corners[2], corners[3]];
    if centres {
        return [[a - c / 2.0, a + c / 2.0], [b - d / 2.0, b + d / 2.0]];
    }
    [[a.min(c), a.max(c)], [b.min(d), b.max(d)]]
}

fn overlap(a: &Bounds, b: &Bounds) -> f32 {
    let mut shared = 1.0;
    for (a, b) in a.iter().zip(b) {
        shared *= (a[1].min(b[1]) - a[0].max(b[0])).max(0.0);
    }
    let area = |bounds: &Bounds| bounds.iter().map(|side| side[1] - side[0]).product::<f32>();
    if shared <= 0.0 { 0.0 } else { shared / (area(a) + area(b) - shared) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_boxes_that_overlap_are_left_out() {
        let boxes = [[0f32, 0., 1., 1.], [0., 0.1, 1., 1.1], [0., 10., 1., 11.]].concat();
        let boxes = Tensor::from_slice(vec![1, 3, 4], &boxes).unwrap();
        let scores = Tensor::from_slice(vec![1, 1, 3], &[0.7f32, 0.9, 0.8]).unwrap();
        let run = |most: i64, iou: f32, least: f32| {
            let most = Tensor::scalar(most).unwrap();
            let (iou, least) = (Tensor::scalar(iou).unwrap(), Tensor::scalar(least).unwrap());
            suppress(&[boxes.clone(), scores.clone(), most, iou, least], false)
        };
        assert_eq!(run(9, 0.5, 0.0).unwrap().to_i64(), [0, 0, 1, 0, 0, 2]);
        assert_eq!(run(9, 1.0, 0.75).unwrap().to_i64(), [0, 0, 1, 0, 0, 2]);
        assert_eq!(run(1, 0.5, 0.0).unwrap().to_i64(), [0, 0, 1]);
        assert!(run(0, 0.5, 0.0).unwrap().is_empty());
        assert!(run(1, 1.5, 0.0).is_err());
    }
}
