//! Who is to hold which partition of a group.
//!
//! Owns the choice among assignors and what they decide on. An assignor is a function of a
//! [`Problem`]: no state, no order of arrival, so that a coordinator that was read back from its
//! log decides alike.

mod cores;
mod problem;
mod range;
mod round_robin;
mod sticky;
mod table;

pub(super) use problem::{Problem, TopicShape};

use corelane_protocol::ApiError;

use super::checks::invalid;

/// A way to assign partitions, in the order of names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Assignor {
    /// Balanced, and a member's partitions on as few cores as that allows.
    Cores,
    /// Neighbouring partitions of each topic, alike for topics of equal size.
    Range,
    /// One partition after the other to one member after the other.
    RoundRobin,
    /// Balanced, with the fewest moves.
    #[default]
    Sticky,
}

impl Assignor {
    const ALL: [Self; 4] = [Self::Cores, Self::Range, Self::RoundRobin, Self::Sticky];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Range => "range",
            Self::RoundRobin => "round-robin",
            Self::Sticky => "sticky",
        }
    }

    /// # Errors
    /// No assignor has this name.
    pub(super) fn find(name: &str) -> Result<Self, ApiError> {
        Self::ALL
            .into_iter()
            .find(|assignor| assignor.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                invalid(format!("there is no assignor {name:?}; there are {names}"))
            })
    }

    /// The one that most ask for; among equals the one in use, then the first by name.
    pub(super) fn elect(votes: impl Iterator<Item = Self>, in_use: Self) -> Self {
        let mut counts = [0_usize; Self::ALL.len()];
        for vote in votes {
            counts[vote as usize] += 1;
        }
        let most = counts.iter().max().copied().unwrap_or(0);
        if most == 0 || counts[in_use as usize] == most {
            return in_use;
        }
        Self::ALL
            .into_iter()
            .find(|assignor| counts[*assignor as usize] == most)
            .unwrap_or(in_use)
    }

    /// The member of each partition, as indices; `None` where nobody subscribes to it.
    pub(super) fn assign(self, problem: &Problem) -> Vec<Option<usize>> {
        match self {
            Self::Cores => cores::assign(problem),
            Self::Range => range::assign(problem),
            Self::RoundRobin => round_robin::assign(problem),
            Self::Sticky => sticky::assign(problem, &problem.current),
        }
    }
}
