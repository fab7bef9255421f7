//! A server that answers as it is told, wrongly too, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Asked {
    /// Verb, path and query: `GET /deployments?page=1`.
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Value,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub enum Reply {
    Json(u16, Value),
    /// With one more header.
    With(u16, &'static str, &'static str, Value),
    Bytes(Vec<u8>),
    /// Hangs up without a word.
    Nothing,
}

pub struct Scripted {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    /// `answer` gets each request and how many came before it.
    pub fn new(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (remembered, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (remembered, answer) = (Arc::clone(&remembered), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let before = {
                        let mut remembered = remembered.lock().unwrap();
                        remembered.push(request.clone());
                        remembered.len() - 1
                    };
                    reply(stream, answer(&request, before));
                });
            }
        });
        Scripted { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { line, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

fn reply(mut stream: TcpStream, reply: Reply) {
    let text = |body: Value| if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let (status, more, body) = match reply {
        Reply::Json(status, body) => (status, String::new(), text(body)),
        Reply::With(status, name, value, body) => (status, format!("{name}: {value}\r\n"), text(body)),
        Reply::Bytes(body) => (200, String::new(), body),
        Reply::Nothing => return,
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {status} x\r\nld-request: {}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n",
        "0f".repeat(16),
        body.len()
    );
    let _ = stream.write_all(&body);
}
