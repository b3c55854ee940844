//! Connections: how many, how slow, and how they end.
//!
//! axum's own server takes any number of connections and waits for ever on a client that sends nothing, so the loop is
//! ours. Its end comes in three steps, each with a bound: nothing new is taken and what runs may finish; what still runs
//! is withdrawn, and its clients are told; what is then still open is cut.

use crate::limits::{CONNECTIONS_MAX, CUT_AFTER, DRAIN_MAX, HEADERS_BYTES_MAX, HEADERS_TIME_MAX};
use crate::patience::Patience;
use crate::phase::Stages;
use crate::routes::Peer;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How long the loop waits when a connection cannot be taken (no descriptor is left): trying again at once would only
/// burn the processor.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serve until `stop` resolves, then end in an orderly way.
pub async fn serve(listener: TcpListener, router: Router, stages: Stages, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIME_MAX).max_buf_size(HEADERS_BYTES_MAX);
    tokio::pin!(stop);
    loop {
        let taken = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = tasks.join_next() => continue,
            taken = take(&listener, &room) => taken,
        };
        let Some((stream, peer, permit)) = taken else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request)
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(Patience::with(stream)), service));
        tasks.spawn(async move {
            // How a client's connection breaks is the client's affair.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    stages.drain();
    let ended = graceful.shutdown();
    tokio::pin!(ended);
    if tokio::time::timeout(DRAIN_MAX, &mut ended).await.is_err() {
        stages.withdraw();
        let _ = tokio::time::timeout(CUT_AFTER, &mut ended).await;
    }
    tasks.shutdown().await;
}

type Taken = (TcpStream, Peer, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is room for it.
async fn take(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<Taken> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    let (stream, address) = listener.accept().await.ok()?;
    // Pieces of a stream are small, and each should go at once. A socket that refuses is slower, not wrong.
    let _ = stream.set_nodelay(true);
    Some((stream, Peer(address.ip()), permit))
}
