//! A cluster's member inside an application: a service of settings over a few lines of HTTP. Any
//! web framework does instead; what matters is that handlers share a `Table`, and that errors that
//! changed nothing are told from those that may have.
//!
//! `cargo run --example embed`

use std::error::Error;

use serde::{Deserialize, Serialize};
use synod::{Json, Rejection, Table};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

mod three;

/// What the application stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Setting {
    colour: String,
    size: u32,
}

type Settings = Table<String, Json<Setting>>;

/// `GET /key` and `PUT /key` with a setting as JSON.
async fn respond(
    settings: &Settings,
    method: &str,
    key: &str,
    body: &[u8],
) -> (&'static str, String) {
    let result = match method {
        "GET" => match settings.get(key).await {
            Ok(Some(entry)) => Ok(serde_json::to_string(&entry.value).expect("it was JSON")),
            Ok(None) => return ("404 Not Found", String::new()),
            Err(error) => Err(error),
        },
        "PUT" => match serde_json::from_slice(body) {
            Ok(setting) => settings.put(key, &setting).await.map(|put| put.version.to_string()),
            Err(error) => return ("400 Bad Request", error.to_string()),
        },
        _ => return ("405 Method Not Allowed", String::new()),
    };
    match result {
        Ok(body) => ("200 OK", body),
        Err(synod::Error::Rejected(Rejection::Unreadable(why))) => {
            ("500 Internal Server Error", why.to_string())
        }
        // Nothing was changed: the caller may try again, here or elsewhere.
        Err(error @ synod::Error::Rejected(_)) => ("503 Service Unavailable", error.to_string()),
        // It may have been: only somebody who looks can tell.
        Err(error @ synod::Error::Unknown) => ("504 Gateway Timeout", error.to_string()),
    }
}

async fn serve(settings: Settings, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).await?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let key = path.trim_start_matches('/');
    loop {
        let mut header = String::new();
        if stream.read_line(&mut header).await? == 0 || header == "\r\n" {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0).min(1 << 20);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (status, body) = respond(&settings, method, key, &body).await;
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    let response = format!("{head}connection: close\r\n\r\n{body}");
    stream.write_all(response.as_bytes()).await
}

/// One request, and what comes back.
async fn request(address: &str, method: &str, key: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("{method} /{key} HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

pub(crate) async fn example() -> Result<(), Box<dyn Error>> {
    let nodes = three::nodes("embed-example", &["settings"]).await?;
    let mut addresses = Vec::new();
    let mut servers = Vec::new();
    for node in &nodes {
        let settings: Settings = node.table("settings")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        servers.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let settings = settings.clone();
                tokio::spawn(async move { serve(settings, stream).await });
            }
        }));
    }
    let put = request(&addresses[0], "PUT", "theme", r#"{"colour":"green","size":7}"#).await?;
    println!("{put}");
    assert!(put.starts_with("HTTP/1.1 200"), "{put}");
    // Whichever member is asked, it answers with the newest.
    let got = request(&addresses[2], "GET", "theme", "").await?;
    println!("{got}");
    assert!(got.ends_with(r#"{"colour":"green","size":7}"#), "{got}");
    let none = request(&addresses[1], "GET", "nothing", "").await?;
    assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    let bad = request(&addresses[1], "PUT", "theme", "green").await?;
    assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
    for server in servers {
        server.abort();
    }
    three::stop(nodes).await
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(example())
}
