//! Joining a cluster by asking a node of it, instead of saying again what that one was told.
//!
//! What it says is kept beside the state, so that a restart needs nobody to ask.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use resp_rs::resp3::Frame;
use serde::{Deserialize, Serialize};

use super::client::{Failure, Target, in_turn};
use super::options::{TIMEOUT, server};
use super::show::{cell, complain, field};
use super::{Trouble, commands};
use crate::server::{Given, NodeChoice, read_file};

/// What a node says of its cluster, in the words of the flags that would say it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Told {
    cluster: String,
    peers: String,
    /// Nothing if there are tables of which a node does not tell all.
    tables: Option<String>,
}

/// What was learnt, and where to keep it once it has proved to make sense.
pub(super) struct Learnt {
    place: PathBuf,
    told: Told,
}

/// Fills in what was not said with what a node at `--join` says of its cluster, or has said.
pub(super) fn ask(choice: NodeChoice, given: &mut Given) -> Result<Option<Learnt>, Trouble> {
    if given.join.is_empty() {
        return Ok(None);
    }
    let servers = given.join.iter().map(|address| server(address)).collect::<Result<_, _>>();
    let servers = servers.map_err(|why| Trouble::Given(format!("join: {why}")))?;
    let password = commands::password(given.password_file()?.as_deref())?;
    let place = given.data_dir()?;
    let place = place.map(|folder| folder.join(format!("node-{choice}.joined.json")));
    let (told, place) = match (learn(&Target { servers, patience: TIMEOUT, password }), place) {
        (Ok(told), place) => (told, place),
        (Err(failure), Some(place)) if !matches!(failure, Failure::Refused { .. }) => {
            let Ok(text) = read_file(&place) else { return Err(failure.into()) };
            let place = place.display();
            let told = serde_json::from_slice(&text);
            let told = told.map_err(|error| Trouble::Given(format!("{place}: {error}")))?;
            complain(format_args!("{failure}; what was said before stands, see {place}"));
            (told, None)
        }
        (Err(failure), _) => return Err(failure.into()),
    };
    fill_in(given, told.clone())?;
    Ok(place.map(|place| Learnt { place, told }))
}

impl Learnt {
    /// Keeps it, so that a restart needs nobody to ask.
    pub(super) fn keep(&self) {
        if let Err(error) = keep(&self.place, &self.told) {
            let place = self.place.display();
            complain(format_args!("{place}: {error}; a restart will have to ask again"));
        }
    }
}

fn fill_in(given: &mut Given, told: Told) -> Result<(), Trouble> {
    given.peers = Some(told.peers);
    given.cluster.get_or_insert(told.cluster);
    if given.tables.is_none() {
        if told.tables.is_none() && given.config.is_none() {
            return Err(Trouble::Given(
                "--join: the cluster has merged tables; say all tables with --tables, or in the \
                 file"
                    .to_owned(),
            ));
        }
        given.tables = told.tables;
    }
    Ok(())
}

fn learn(target: &Target) -> Result<Told, Failure> {
    let (_, (status, tables)) = in_turn(target, |node, _| {
        let status = node.call(&[Bytes::from("SYNOD.STATUS")])?;
        Ok((status, node.call(&[Bytes::from("SYNOD.TABLES")])?))
    })?;
    let strange = || Failure::Unreachable("it does not say who its members are".to_owned());
    let members = field(&status, "members").and_then(Frame::as_map).ok_or_else(strange)?;
    let mut peers: Vec<String> =
        members.iter().map(|(node, address)| format!("{}={}", cell(node), cell(address))).collect();
    peers.sort();
    let cluster = field(&status, "cluster").map(cell).ok_or_else(strange)?;
    // What was made while nodes ran is told by the nodes themselves.
    let tables = tables.as_array().unwrap_or_default().iter();
    let tables = tables.filter(|table| field(table, "declared") != Some(&Frame::Boolean(false)));
    let tables = tables.map(|table| {
        let name = field(table, "name").map(cell)?;
        let discipline = field(table, "discipline").map(cell)?;
        let once = field(table, "write_once") == Some(&Frame::Boolean(true));
        if discipline == "consensus" {
            return Some(if once { format!("{name}:write-once") } else { name });
        }
        let words = field(table, "words").filter(|words| **words != Frame::Null).map(cell)?;
        Some(format!("{name}:{discipline}{}{words}", if words.is_empty() { "" } else { "+" }))
    });
    let tables: Option<Vec<String>> = tables.collect();
    Ok(Told { cluster, peers: peers.join(","), tables: tables.map(|all| all.join(",")) })
}

/// All of it, or what was there before.
fn keep(place: &Path, told: &Told) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = place.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(serde_json::to_string_pretty(told)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, place)
}
