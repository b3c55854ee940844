//! Clients that leave, clients that do not read, and the end of the server.

use crate::client::{get, hello, hello_with, post, router};
use crate::toy::Toy;
use qeil_control::event::Outcome;
use qeil_serve::phase::Stages;
use qeil_serve::routes::App;
use qeil_serve::server::serve;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn server(toy: &Arc<Toy>) -> Server {
    let (stages, phase) = Stages::serving();
    let router = App::new(Arc::clone(toy) as _, None, true, phase).router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(serve(listener, router, stages, async {
        let _ = stopped.await;
    }));
    Server { address, stop, ended }
}

fn raw(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head, body].concat().into_bytes()
}

async fn connect(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn read_until(stream: &mut TcpStream, what: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(what) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the connection ended before {what:?}: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A request that would go on for long.
fn long(stream: bool) -> Value {
    hello_with(json!({"max_tokens": 2000, "stream": stream}))
}

async fn admitted(toy: &Toy, count: usize) {
    while toy.seen.lock().unwrap().asks.len() < count {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_withdraws_its_request() {
    let toy = Toy::new(|_| {});
    let server = server(&toy).await;
    toy.running.send_replace(false);
    // A whole answer that nobody waits for any more, and a stream that ends in the middle.
    let whole = connect(&server, &raw(&long(false))).await;
    admitted(&toy, 1).await;
    drop(whole);
    assert_eq!(toy.outcomes(1).await, [Outcome::Withdrawn]);

    let mut stream = connect(&server, &raw(&long(true))).await;
    admitted(&toy, 2).await;
    toy.running.send_replace(true);
    read_until(&mut stream, "\"content\":").await;
    toy.running.send_replace(false);
    drop(stream);
    assert_eq!(toy.outcomes(2).await[1], Outcome::Withdrawn);
    server.stop.send(()).unwrap();
    server.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_given_up() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    let response = router.oneshot(post(long(true).to_string())).await.unwrap();
    assert_eq!(response.status(), 200);
    // More words than a stream holds; then time stands still, and the request would stay for ever.
    while toy.seen.lock().unwrap().words < 200 {
        tokio::task::yield_now().await;
    }
    toy.running.send_replace(false);
    assert_eq!(toy.outcomes(1).await, [Outcome::Withdrawn]);
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let response = router.oneshot(post(axum::body::Body::from_stream(never))).await.unwrap();
    assert_eq!(response.status(), 408);
}

#[tokio::test]
async fn connections_are_used_again() {
    let toy = Toy::new(|_| {});
    let server = server(&toy).await;
    let mut stream = connect(&server, &raw(&hello())).await;
    for _ in 0..3 {
        let answer = read_until(&mut stream, "\"wall_s\"").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // The rest of the answer, up to its closing brackets, may still be on its way: the next request follows anyway.
        stream.write_all(&raw(&hello())).await.unwrap();
    }
    server.stop.send(()).unwrap();
    drop(stream);
    server.ended.await.unwrap();
}

#[tokio::test]
async fn the_end_lets_requests_finish_and_takes_no_new_ones() {
    let toy = Toy::new(|_| {});
    let server = server(&toy).await;
    toy.running.send_replace(false);
    let mut stream = connect(&server, &raw(&hello_with(json!({"stream": true})))).await;
    admitted(&toy, 1).await;
    server.stop.send(()).unwrap();
    // Nothing new is taken: the listener closes.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    toy.running.send_replace(true);
    let text = read_until(&mut stream, "[DONE]").await;
    assert!(text.contains("\"outcome\":\"completed\""), "{text}");
    server.ended.await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_being_stopped_refuses_and_withdraws() {
    let toy = Toy::new(|_| {});
    let (router, stages) = router(&toy, None);
    toy.running.send_replace(false);
    let whole = tokio::spawn(router.clone().oneshot(post(long(false).to_string())));
    let streamed = router.clone().oneshot(post(long(true).to_string())).await.unwrap();
    admitted(&toy, 2).await;
    stages.drain();
    let refused = router.clone().oneshot(post(hello().to_string())).await.unwrap();
    assert_eq!(refused.status(), 503);
    let ready = get(&router, "/health/ready").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (503, &json!("shutting_down")));
    stages.withdraw();
    assert_eq!(whole.await.unwrap().unwrap().status(), 503);
    let text = axum::body::to_bytes(streamed.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("shutting_down"), "{text}");
    let outcomes = toy.outcomes(2).await;
    assert_eq!(outcomes, [Outcome::Withdrawn, Outcome::Withdrawn]);
}

#[tokio::test]
async fn a_device_that_dies_is_not_the_clients_to_know() {
    let toy = Toy::new(|limits| limits.moves_max = 0);
    let (router, _stages) = router(&toy, None);
    toy.running.send_replace(false);
    let whole = tokio::spawn(router.clone().oneshot(post(long(false).to_string())));
    admitted(&toy, 1).await;
    toy.kill(0).await;
    toy.kill(1).await;
    toy.running.send_replace(true);
    let response = whole.await.unwrap().unwrap();
    let status = response.status().as_u16();
    let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&text);
    // The loop may hold it until its deadline in the hope of a device, or give it up at once: an error either way.
    assert!([500, 503, 504].contains(&status) && !text.contains("/var/lib"), "{status}: {text}");
}
