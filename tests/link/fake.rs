//! A Supervisor made of nothing but a listener: answers what it is told to answer, however wrong.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use warden::protocol::{self, FromNode, Hello, ToNode, Welcome};

use super::PATIENCE;

pub struct Supervisor {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// A connection of an agent, with its websocket open.
pub struct Link {
    socket: WebSocketStream<TcpStream>,
    /// The `authorization` it showed.
    pub shown: String,
}

impl Supervisor {
    pub async fn start() -> Supervisor {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Supervisor { listener, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next connection of an agent, of which nothing is read yet.
    pub async fn connection(&self) -> TcpStream {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        accepted.expect("no agent dials").unwrap().0
    }

    /// The next connection, answered with this.
    pub async fn answer(&self, head: &str) -> String {
        let mut stream = self.connection().await;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.shutdown().await;
        String::from_utf8(request).unwrap()
    }

    /// The next connection, taken as a websocket.
    pub async fn link(&self) -> Link {
        let stream = self.connection().await;
        let mut shown = String::new();
        #[expect(clippy::result_large_err, reason = "tungstenite asks for an answer of this type")]
        let look = |request: &Request, response: Response| {
            shown = request.headers()["authorization"].to_str().unwrap().to_owned();
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, look).await.unwrap();
        Link { socket, shown }
    }

    /// The next connection, welcomed.
    pub async fn welcomed(&self) -> Link {
        let mut link = self.link().await;
        link.hello().await;
        link.welcome().await;
        link
    }
}

impl Link {
    pub async fn say(&mut self, message: &ToNode) {
        self.say_frame(Message::text(protocol::encode(message).unwrap())).await;
    }

    pub async fn say_frame(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    pub async fn welcome(&mut self) {
        self.welcome_as(true).await;
    }

    /// As a Supervisor that takes offers of snapshots, or as one from before there were any.
    pub async fn welcome_as(&mut self, takes_offers: bool) {
        self.say(&ToNode::Welcome(Welcome { deployment: 2, heartbeat_seconds: 30, takes_offers })).await;
    }

    /// The next frame; none when the agent has closed the connection.
    pub async fn frame(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
        next.expect("the agent says nothing and hangs on").and_then(Result::ok)
    }

    /// The next message; none when the agent has closed the connection.
    pub async fn hear(&mut self) -> Option<FromNode> {
        loop {
            match self.frame().await? {
                Message::Text(text) => return Some(protocol::decode(&text).unwrap()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    pub async fn hello(&mut self) -> Hello {
        match self.hear().await {
            Some(FromNode::Hello(hello)) => hello,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the agent has closed the connection, whatever else it says.
    pub async fn closed(&mut self) {
        while self.hear().await.is_some() {}
    }

    /// Answers no ping any more.
    pub fn fall_silent(self) -> WebSocketStream<TcpStream> {
        self.socket
    }
}
