//! Plans that once failed: each must pass, for ever. `cargo sim` writes such plans; copy one into
//! `tests/plans/` and it is replayed here.

use std::fs;
use std::path::Path;

use synod_sim::campaign::{attempt, failure};
use synod_sim::plan::Plan;
use synod_sim::world::Blind;

#[test]
fn plans_that_failed_once_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plans");
    let mut plans: Vec<_> = fs::read_dir(&folder)
        .map(|listing| listing.filter_map(|item| Some(item.ok()?.path())).collect())
        .unwrap_or_default();
    plans.retain(|path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "plan"));
    plans.sort();
    assert!(!plans.is_empty(), "tests/plans has no plan: this test would hold nothing");
    let mut failing = Vec::new();
    for path in &plans {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).expect("the plan can be read");
        let plan: Plan = match text.parse() {
            Ok(plan) => plan,
            Err(error) => {
                failing.push(error.in_file(&format!("tests/plans/{name}")));
                continue;
            }
        };
        if let Some(failure) = failure(&attempt(&plan, &mut Blind)) {
            failing.push(format!("cargo sim replay tests/plans/{name}\n    {failure}"));
        }
    }
    assert!(
        failing.is_empty(),
        "{} of {} plans fail:\n{}",
        failing.len(),
        plans.len(),
        failing.join("\n")
    );
}
