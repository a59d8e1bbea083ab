//! Which CPUs the broker's cores are pinned to.

use crate::config::CoreSelection;

use super::StartError;

/// The CPU of each core, by core number.
pub(super) fn assign(
    selection: &CoreSelection,
    available: &[usize],
) -> Result<Vec<usize>, StartError> {
    if available.is_empty() {
        return Err(StartError::Cores(
            "the kernel does not say which CPUs this process may run on".to_owned(),
        ));
    }
    match selection {
        CoreSelection::All => Ok(available.to_vec()),
        CoreSelection::Count(count) => {
            let count = usize::from(*count);
            if count > available.len() {
                // Allowed, so that a broker of many cores can be tried on a small machine.
                tracing::warn!(
                    cores = count,
                    cpus = available.len(),
                    "several cores share a CPU: this works, and is slow"
                );
            }
            Ok(available.iter().copied().cycle().take(count).collect())
        }
        CoreSelection::List(list) => {
            let cpus: Vec<usize> = list.iter().map(|cpu| usize::from(*cpu)).collect();
            match cpus.iter().find(|cpu| !available.contains(cpu)) {
                None => Ok(cpus),
                Some(cpu) => Err(StartError::Cores(format!(
                    "CPU {cpu} is not among those that this process may run on ({})",
                    enumerate(available)
                ))),
            }
        }
    }
}

/// The CPUs that this process may run on.
pub(super) fn available() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.into_iter().map(|core| core.id).collect()
}

fn enumerate(cpus: &[usize]) -> String {
    let names: Vec<String> = cpus.iter().map(usize::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_taken_from_what_is_allowed() {
        let available = [2, 3, 7];
        let assigned = |selection: CoreSelection| assign(&selection, &available).expect("possible");
        assert_eq!(assigned(CoreSelection::All), [2, 3, 7]);
        assert_eq!(assigned(CoreSelection::Count(2)), [2, 3]);
        assert_eq!(assigned(CoreSelection::Count(4)), [2, 3, 7, 2]);
        assert_eq!(assigned(CoreSelection::List(vec![3, 7])), [3, 7]);
        let refused = assign(&CoreSelection::List(vec![1]), &available).expect_err("not allowed");
        assert!(
            refused.to_string().contains("CPU 1 is not among"),
            "{refused}"
        );
    }
}
