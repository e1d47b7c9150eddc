//! Joining a cluster by asking a node of it, instead of saying again what that one was told.

use std::collections::BTreeMap;

use bytes::Bytes;
use resp_rs::resp3::Frame;

use super::client::{Connection, Failure, Target};
use super::options::{TIMEOUT, server};
use super::show::{cell, field};
use super::{Trouble, commands};
use crate::server::Given;

/// Fills in what was not said with what the node at `--join` says of its cluster.
pub(super) fn ask(given: &mut Given) -> Result<(), Trouble> {
    let Some(address) = given.join.clone() else { return Ok(()) };
    let address = server(&address).map_err(|why| Trouble::Given(format!("--join: {why}")))?;
    let password = given.password_file.as_deref().map(commands::password).transpose()?;
    let target = Target { servers: vec![address.clone()], patience: TIMEOUT, password };
    let mut node = Connection::open(&address, target.patience, target.password.as_ref())?;
    let status = node.call(&[Bytes::from("SYNOD.STATUS")])?;
    let tables = node.call(&[Bytes::from("SYNOD.TABLES")])?;
    let strange = || Failure::Unreachable(format!("{address} does not say who its members are"));
    let members = field(&status, "members").and_then(Frame::as_map).ok_or_else(strange)?;
    let members: BTreeMap<String, String> =
        members.iter().map(|(node, address)| (cell(node), cell(address))).collect();
    let members: Vec<String> =
        members.iter().map(|(node, address)| format!("{node}={address}")).collect();
    given.peers = Some(members.join(","));
    let cluster = field(&status, "cluster").map(cell).ok_or_else(strange)?;
    given.cluster.get_or_insert(cluster);
    let tables = tables.as_array().unwrap_or_default().iter().map(|table| {
        let name = field(table, "name").map(cell).unwrap_or_default();
        let once = field(table, "write_once") == Some(&Frame::Boolean(true));
        if once { format!("{name}:write-once") } else { name }
    });
    given.tables.get_or_insert_with(|| tables.collect::<Vec<_>>().join(","));
    Ok(())
}
