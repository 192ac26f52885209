//! Which plans of a sweep train side by side in one program of a device.

use std::collections::BTreeMap;

use super::Planned;

/// The most that train together where nothing else is said. Beyond, a device is busy, and a crash takes many along.
pub const MOST_TOGETHER: usize = 32;

/// What a device needs for a run, as a multiple of what the CPU's kernels need: they keep no pattern of attention.
const DEVICE_BYTES: u64 = 3;

/// The open plans as groups, in the order of the first of each: those of one [cohort](crate::plan::Plan::cohort), at most
/// `most` and no more than fit into `device_bytes`, in groups of nearly one size; the others alone.
pub(super) fn cohorts(
    plans: &[Planned],
    open: Vec<usize>,
    most: usize,
    device_bytes: Option<u64>,
) -> Vec<Vec<usize>> {
    let mut by_cohort: BTreeMap<String, usize> = BTreeMap::new();
    let mut all: Vec<Vec<usize>> = Vec::new();
    for idx in open {
        let cohort = if most > 1 { plans[idx].plan.cohort() } else { None };
        match cohort.as_ref().and_then(|cohort| by_cohort.get(cohort)) {
            Some(&group) => all[group].push(idx),
            None => {
                cohort.map(|cohort| by_cohort.insert(cohort, all.len()));
                all.push(vec![idx]);
            }
        }
    }
    let cut = |group: Vec<usize>| {
        let fit = device_bytes.map_or(usize::MAX, |bytes| n_that_fit(&plans[group[0]], bytes));
        let n_groups = group.len().div_ceil(most.min(fit).max(1));
        let size = group.len().div_ceil(n_groups);
        group.chunks(size).map(<[usize]>::to_vec).collect::<Vec<_>>()
    };
    all.into_iter().flat_map(cut).collect()
}

/// How many runs of a shape a device has memory for.
fn n_that_fit(planned: &Planned, device_bytes: u64) -> usize {
    let bytes = planned.plan.estimate().map_or(u64::MAX, |estimate| estimate.train_bytes);
    let bytes = bytes.saturating_mul(DEVICE_BYTES).max(1);
    usize::try_from(device_bytes / bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::resolve;
    use crate::sweep::planned;

    #[test]
    fn plans_of_one_shape_are_grouped_and_groups_fit_the_device() {
        let spec =
            "model.preset = 'lstm'\n[sweep]\nmodel.d_model = [64, 128]\nseed = { count = 5 }";
        let plans = planned(&resolve(spec, None, &[], None).unwrap());
        let wide: Vec<usize> = (0..10).filter(|&idx| plans[idx].arm.contains("128")).collect();
        let narrow: Vec<usize> = (0..10).filter(|idx| !wide.contains(idx)).collect();
        let of = |open: &[usize], most, bytes| cohorts(&plans, open.to_vec(), most, bytes);
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(of(&all, 32, None), [narrow.clone(), wide.clone()]);
        // Nearly equal groups: three and two rather than four and one.
        assert_eq!(of(&narrow, 4, None), [narrow[..3].to_vec(), narrow[3..].to_vec()]);
        assert_eq!(of(&narrow, 1, None).len(), 5);
        let one = plans[narrow[0]].plan.estimate().unwrap().train_bytes;
        assert_eq!(of(&narrow, 32, Some(3 * one * 2))[0].len(), 2);
        // What does not even fit alone is tried alone.
        assert_eq!(of(&narrow, 32, Some(0)).len(), 5);
    }
}
