//! A primary table, beside Redis with one replica and beside a table of registers.

use std::io;

use serde_json::Value;

use crate::Plan;
use crate::load::{KEYS, ORDERS, System, VALUE, Work, fill};
use crate::speed::{Side, all};
use crate::systems;

pub(crate) async fn run(plan: &Plan) -> io::Result<Value> {
    let home = plan.home.join("primary");
    std::fs::create_dir(&home)?;
    let ours = systems::primary(&plan.synod, &home).await?;
    let redis = systems::replicated(&plan.redis, &home).await?;
    fill(System::Primary, ours[0].clients, Some(ORDERS), KEYS).await?;
    fill(System::Synod, ours[0].clients, None, KEYS).await?;
    fill(System::Replicated, redis[0].clients, None, KEYS).await?;
    println!(
        "{KEYS} keys of 16 bytes, values of {} bytes. A put is answered when two have synced it \
         to their disks:\nof a primary table, the primary and its secondary; of a table of \
         registers, two of three nodes, the\npromise and then the value; of Redis (appendfsync \
         always), the primary and, by WAIT 1 behind each put or\neach pipeline of puts, its \
         replica. A local get is answered by the primary alone.\n",
        VALUE.len(),
    );
    let (primary, registers, redis): (Side<'_>, Side<'_>, Side<'_>) =
        ((System::Primary, &ours), (System::Synod, &ours), (System::Replicated, &redis));
    let works = [
        (Work::Put, primary, redis),
        (Work::Put, primary, registers),
        (Work::Local, primary, redis),
    ];
    all(plan, &works).await
}
