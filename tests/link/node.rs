//! A node made of nothing but a websocket: says what it is told to say, however wrong.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use warden::protocol::{self, About, FromNode, Hello, LINK_PATH, Refusal, Request, ToNode, Welcome};
use warden::secret::Secret;

use super::PATIENCE;

pub struct Node {
    socket: WebSocketStream<TcpStream>,
}

/// How a Supervisor declined the websocket.
#[derive(Debug, PartialEq, Eq)]
pub struct Declined {
    pub status: u16,
    pub retry_after: Option<String>,
}

impl Node {
    /// Opens the websocket and says nothing yet.
    pub async fn dial(address: SocketAddr, credential: &Secret) -> Result<Node, Declined> {
        let mut request = format!("ws://{address}{LINK_PATH}").into_client_request().unwrap();
        let shown = format!("Bearer {}", credential.expose()).parse().unwrap();
        request.headers_mut().insert("authorization", shown);
        let stream = TcpStream::connect(address).await.unwrap();
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Node { socket }),
            Err(Error::Http(response)) => Err(Declined {
                status: response.status().as_u16(),
                retry_after: response
                    .headers()
                    .get("retry-after")
                    .map(|value| value.to_str().unwrap().to_owned()),
            }),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens the websocket, says hello and is welcome.
    pub async fn link(address: SocketAddr, id: u64, credential: &Secret, instance: &str) -> Node {
        let mut node = Node::dial(address, credential).await.unwrap();
        node.say(&FromNode::Hello(hello(id, instance, Vec::new()))).await;
        node.welcome().await;
        node
    }

    pub async fn say(&mut self, message: &FromNode) {
        self.say_text(protocol::encode(message).unwrap()).await;
    }

    pub async fn say_text(&mut self, text: String) {
        self.say_frame(Message::text(text)).await;
    }

    /// A Supervisor may have hung up by now; then the next [`Node::hear`] tells.
    pub async fn say_frame(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    /// The next message; none when the Supervisor has closed the connection.
    pub async fn hear(&mut self) -> Option<ToNode> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match next.expect("the Supervisor says nothing and hangs on") {
                Some(Ok(Message::Text(text))) => return Some(protocol::decode(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn welcome(&mut self) -> Welcome {
        match self.hear().await {
            Some(ToNode::Welcome(welcome)) => welcome,
            other => panic!("{other:?}"),
        }
    }

    pub async fn request(&mut self) -> Request {
        match self.hear().await {
            Some(ToNode::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Why the Supervisor turned this node away. It closes the connection after it.
    pub async fn refused(&mut self) -> Refusal {
        let refused = match self.hear().await {
            Some(ToNode::Refused { code, .. }) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(self.hear().await, None);
        refused
    }
}

pub fn hello(node: u64, instance: &str, open: Vec<u64>) -> Hello {
    Hello {
        node,
        boot_id: "3c1f0a52-6f5b-4a10-9a4e-0a8f0f5d8c11".into(),
        instance: instance.into(),
        agent_version: "0.1.0".into(),
        capabilities: vec!["activity".into()],
        host: About { hostname: "iggy-1".into(), ..About::default() },
        open,
    }
}
