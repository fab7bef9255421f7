//! A network that misbehaves: a TCP proxy that cuts, stalls and repeats at a byte of one's choice, and one of HTTP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What happens to one direction of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Pass,
    /// Both directions end after so many bytes of this one.
    CutAfter(u64),
    /// The bytes after so many come twice.
    RepeatAfter(u64),
    /// What comes after so many bytes never arrives, and nobody is told.
    StallAfter(u64),
    /// When more than so many bytes come, whoever dialled gets a reset instead of them.
    ResetAfter(u64),
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    pub up: Fate,
    pub down: Fate,
}

/// Stands between whoever dials [`Proxy::address`] and a server.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    server: Mutex<SocketAddr>,
    /// Of the next connections, first come first served; then all pass.
    plans: Mutex<Vec<Plan>>,
    cut: Mutex<CancellationToken>,
    stalled: watch::Sender<bool>,
    connections: AtomicUsize,
    up: AtomicU64,
    down: AtomicU64,
    /// An HTTP proxy: what CONNECT must bring along, and what was asked for.
    tunnel: Option<Tunnel>,
}

struct Tunnel {
    authorization: Option<String>,
    asked: Mutex<Vec<String>>,
}

impl Proxy {
    pub async fn before(server: SocketAddr) -> Proxy {
        Proxy::start(server, None).await
    }

    /// An HTTP proxy. Whatever is asked for, it connects to `server`, if `authorization` is the one that is told.
    pub async fn of_http(server: SocketAddr, authorization: Option<&str>) -> Proxy {
        let tunnel = Tunnel { authorization: authorization.map(str::to_owned), asked: Mutex::default() };
        Proxy::start(server, Some(tunnel)).await
    }

    async fn start(server: SocketAddr, tunnel: Option<Tunnel>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server: Mutex::new(server),
            plans: Mutex::default(),
            cut: Mutex::default(),
            stalled: watch::channel(false).0,
            connections: AtomicUsize::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            tunnel,
        });
        let stop = CancellationToken::new();
        let (accepting, stopping) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopping.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((client, _)) = accepted else { continue };
                let (shared, stop) = (accepting.clone(), stopping.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = shared.carry(client) => {}
                    }
                });
            }
        });
        Proxy { address, shared, stop }
    }

    /// What befalls the next connection that has no plan yet.
    pub fn plan(&self, plan: Plan) {
        self.shared.plans.lock().unwrap().push(plan);
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        std::mem::take(&mut *self.shared.cut.lock().unwrap()).cancel();
    }

    /// Nothing passes any more, and nobody is told.
    pub fn stall(&self) {
        self.shared.stalled.send_replace(true);
    }

    /// Where the next connections lead.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.shared.server.lock().unwrap() = server;
    }

    /// Bytes that passed to the server and back, over all connections.
    pub fn passed(&self) -> (u64, u64) {
        (self.shared.up.load(Ordering::Relaxed), self.shared.down.load(Ordering::Relaxed))
    }

    /// The request lines of CONNECT so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.tunnel.as_ref().map(|tunnel| tunnel.asked.lock().unwrap().clone()).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    async fn carry(&self, mut client: TcpStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let plan = {
            let mut plans = self.plans.lock().unwrap();
            if plans.is_empty() { Plan::default() } else { plans.remove(0) }
        };
        let cut = self.cut.lock().unwrap().clone();
        if let Some(tunnel) = &self.tunnel
            && !tunnel.open(&mut client).await
        {
            return;
        }
        let server = *self.server.lock().unwrap();
        let Ok(mut server) = TcpStream::connect(server).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            () = cut.cancelled() => {}
            () = pump(&mut from_client, &mut to_server, plan.up, &self.up, self.stalled.subscribe()) => {}
            () = pump(&mut from_server, &mut to_client, plan.down, &self.down, self.stalled.subscribe()) => {}
        }
        if [plan.up, plan.down].iter().any(|fate| matches!(fate, Fate::ResetAfter(_))) {
            let _ = client.set_zero_linger();
        }
    }
}

impl Tunnel {
    async fn open(&self, client: &mut TcpStream) -> bool {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if !matches!(client.read_buf(&mut request).await, Ok(1..)) {
                return false;
            }
        }
        let request = String::from_utf8(request).unwrap();
        self.asked.lock().unwrap().push(request.lines().next().unwrap().to_owned());
        let told = request.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
        if self.authorization.is_some() && self.authorization.as_deref() != told {
            let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
            return false;
        }
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok()
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    fate: Fate,
    counter: &AtomicU64,
    mut stalled: watch::Receiver<bool>,
) {
    let mut passed = 0;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let most = match fate {
            Fate::Pass => buffer.len(),
            Fate::CutAfter(at) | Fate::RepeatAfter(at) | Fate::StallAfter(at) | Fate::ResetAfter(at)
                if passed < at =>
            {
                usize::try_from(at - passed).unwrap().min(buffer.len())
            }
            Fate::CutAfter(_) => return,
            Fate::StallAfter(_) => std::future::pending().await,
            Fate::RepeatAfter(_) | Fate::ResetAfter(_) => buffer.len(),
        };
        let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else { return };
        if matches!(fate, Fate::ResetAfter(at) if passed >= at) {
            return;
        }
        if stalled.wait_for(|stalled| !stalled).await.is_err() {
            return;
        }
        let times = if matches!(fate, Fate::RepeatAfter(at) if passed >= at) { 2 } else { 1 };
        for _ in 0..times {
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
        passed += read as u64;
        counter.fetch_add(read as u64, Ordering::Relaxed);
    }
}
