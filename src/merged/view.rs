//! What is to be seen of versions that do not replace each other.
//!
//! A pure function of their set, so replicas that hold the same versions show the same, whoever
//! merged them, from where and in which order (C6, M-10).
//!
//! Must never know: how the versions came together.

use alloc::vec::Vec;

use super::schema::{Agreement, Contest, Strategy};
use super::version::{Origin, Version, is_outdated};
use crate::base::Value;

/// What a row shows: nothing, one version, or several that are in conflict, the latest first.
pub(crate) fn view<'a>(agreement: &Agreement, versions: &'a [Version]) -> Vec<&'a Version> {
    let mut live = contest(agreement.contest, versions);
    live.sort_unstable_by_key(|version| core::cmp::Reverse(version.rank()));
    if agreement.strategy == Strategy::Custom {
        // Of several answers the latest stays, whatever else there is: who has forgotten the others
        // must come to the same.
        let mut answers = 0;
        live.retain(|version| {
            answers += usize::from(version.origin == Origin::Resolved);
            version.origin != Origin::Resolved || answers == 1
        });
    }
    // Equal values are one value: no conflict. The latest stands for them.
    let mut shown: Vec<&Version> = Vec::with_capacity(live.len());
    for version in live {
        if !shown.iter().any(|other| other.value() == version.value()) {
            shown.push(version);
        }
    }
    if shown.len() < 2 {
        return shown;
    }
    match &agreement.strategy {
        Strategy::LargestIsland | Strategy::OldestIsland => {
            shown.sort_by_key(|version| {
                core::cmp::Reverse(version.field.as_ref().map(Value::as_bytes))
            });
            shown.truncate(1);
        }
        Strategy::LastModified => shown.truncate(1),
        Strategy::LastVersion(field) => {
            // Stable: of equal fields the latest stays first.
            shown.sort_by_key(|version| core::cmp::Reverse(version.decisive(field)));
            shown.truncate(1);
        }
        Strategy::Custom | Strategy::Ignore | Strategy::Manual | Strategy::Siblings => {}
    }
    shown
}

/// The values that are not over, and that the removals among the versions leave. Late ones of
/// either kind take no part: some copies may have forgotten what is against them.
fn contest(contest: Contest, versions: &[Version]) -> Vec<&Version> {
    let removed = versions
        .iter()
        .filter(|version| version.value().is_none() && version.origin != Origin::Late);
    let removed = removed.map(Version::rank).max();
    let stays = |version: &&Version| match (contest, removed) {
        (Contest::UpdateWins, _) | (_, None) => true,
        _ if version.origin == Origin::Late => true,
        (Contest::DeleteWins, Some(_)) => false,
        (Contest::LaterWins, Some(removed)) => version.rank() > removed,
    };
    let live = versions.iter().filter(|version| version.value().is_some());
    live.filter(|version| !is_outdated(version, versions)).filter(stays).collect()
}
