//! The Rust client against a real dirtyd.

mod dirtyd;

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use dirty_client::{Attachment, Bytes, Call, Client, Error, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use dirtyd::{Dirtyd, PATIENCE};

const APP: &str = "calls:Calls";

fn client_of(dirtyd: &Dirtyd) -> Client {
    Client::builder().socket(dirtyd.socket()).build()
}

fn impatient(socket: impl Into<std::path::PathBuf>) -> Client {
    Client::builder()
        .socket(socket)
        .connect_timeout(Duration::from_millis(100))
        .build()
}

async fn failure(call: Call) -> Error {
    timeout(PATIENCE, call.execute())
        .await
        .expect("it ends")
        .expect_err("it fails")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_and_results_are_json() {
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    let call = client
        .call(APP, "echo")
        .arg(1)
        .args(("two", [3.5, 1e300]))
        .kwarg("größe", json!({"a": null}));
    let response = call.request_id("me").execute().await.unwrap();
    assert_eq!(
        response.value,
        json!([[1, "two", [3.5, 1e300]], {"größe": {"a": null}}])
    );
    assert!(!response.call_id.is_empty());
    assert_eq!(response.worker_id, 1);
    assert!(response.run_time > Duration::ZERO);
    let numbers = json!([u64::MAX, i64::MIN, 0.1, 5e-324]);
    assert_eq!(
        client
            .execute(APP, "same", (&numbers,))
            .await
            .unwrap()
            .value,
        numbers
    );
    assert_eq!(
        client.execute(APP, "echo", ()).await.unwrap().value,
        json!([[], {}])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_both_ways() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Photo {
        name: String,
        image: Attachment,
    }
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    let photo = Photo {
        name: "me".into(),
        image: Attachment(0),
    };
    let large = Bytes::from(vec![7; 3 << 20]);
    let response = client
        .call(APP, "same")
        .attach(large.clone())
        .arg(&photo)
        .execute()
        .await
        .unwrap();
    let back: Photo = response.parse().unwrap();
    assert_eq!(response.attachments[back.image.0], large);
    assert_eq!(response.bytes(&response.value["image"]), Some(&large));
    let response = client
        .call(APP, "same")
        .bytes(&b"\x00\xff"[..])
        .execute()
        .await
        .unwrap();
    assert_eq!(response.bytes(&response.value).unwrap(), &b"\x00\xff"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_gives_its_values_then_its_error() {
    let dirtyd = Dirtyd::ready();
    let mut chunks = client_of(&dirtyd)
        .stream(APP, "count_and_raise", (300,))
        .await
        .unwrap();
    for i in 0..300 {
        assert_eq!(chunks.next().await.unwrap().unwrap().value, i);
    }
    let error = chunks.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::AppError);
    assert_eq!(
        (error.app.as_str(), error.action.as_str()),
        (APP, "count_and_raise")
    );
    assert!(chunks.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_up_the_action_and_nobody_else() {
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    let mut chunks = client.stream(APP, "blobs", (100, 1 << 20)).await.unwrap();
    let first = chunks.next().await.unwrap().unwrap();
    assert_eq!(first.bytes(&first.value["data"]).unwrap().len(), 1 << 20);
    assert_eq!(
        client
            .execute(APP, "same", ("meanwhile",))
            .await
            .unwrap()
            .value,
        "meanwhile"
    );
    for i in 1..100 {
        assert_eq!(chunks.next().await.unwrap().unwrap().value["i"], i);
    }
    assert!(chunks.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_stream_ends_the_action() {
    let dirtyd = Dirtyd::ready();
    let mut chunks = client_of(&dirtyd)
        .stream(APP, "count_then_wait", (3,))
        .await
        .unwrap();
    assert_eq!(chunks.next().await.unwrap().unwrap().value, 0);
    dirtyd.wait_for_line("counted, waiting");
    drop(chunks);
    let mut chunks = client_of(&dirtyd)
        .stream(APP, "count", (1_000_000,))
        .await
        .unwrap();
    assert_eq!(chunks.next().await.unwrap().unwrap().value, 0);
    drop(chunks);
    dirtyd.wait_for_line("count ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_call_cancels_it_in_its_worker() {
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    let task = tokio::spawn(client.call(APP, "wait").arg(1000).execute());
    let dirtyd = tokio::task::spawn_blocking(|| {
        dirtyd.wait_for_line("waiting");
        dirtyd
    });
    let _dirtyd = dirtyd.await.unwrap();
    task.abort();
    let asked = Instant::now();
    while client
        .execute(APP, "what_was_seen", ())
        .await
        .unwrap()
        .value
        == json!([])
    {
        assert!(asked.elapsed() < PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_the_app_raised() {
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    let error = failure(client.call(APP, "fail").arg("größe")).await;
    assert_eq!(
        (error.reason, error.message.as_str()),
        (Reason::AppError, "größe")
    );
    assert_eq!(error.exception_type, "ValueError");
    assert!(
        error.traceback.contains("in fail") && !error.call_id.is_empty() && error.worker_id == 1
    );
    assert_eq!(error.to_string(), "APP_ERROR: ValueError: größe");
    let error = failure(client.call("calls:Cals", "fail")).await;
    assert_eq!(error.reason, Reason::AppNotFound);
    assert!(error.message.contains(APP), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_runs_too_long_ends_in_time() {
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    client.connect().await.unwrap();
    let error = failure(
        client
            .call(APP, "wait")
            .arg(1000)
            .timeout(Duration::from_millis(200)),
    )
    .await;
    assert_eq!(error.reason, Reason::Timeout);
    // What was left when it was sent.
    let left = error.timeout.unwrap();
    assert!(left > Duration::from_millis(100) && left <= Duration::from_millis(200));
    assert!(!error.call_id.is_empty(), "dirtyd said it: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dirtyd_that_is_stopped_does_not_hold_a_call_for_ever() {
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    let mut chunks = client
        .call(APP, "count_then_wait")
        .arg(1)
        .timeout(Duration::from_millis(500))
        .stream()
        .await
        .unwrap();
    dirtyd.signal("STOP");
    let error = failure(
        client
            .call(APP, "same")
            .arg(1)
            .timeout(Duration::from_millis(100)),
    )
    .await;
    assert_eq!(error.reason, Reason::Timeout);
    assert!(error.message.contains("outcome unknown"), "{error}");
    let last = loop {
        match chunks.next().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert_eq!(last.unwrap().unwrap_err().reason, Reason::Timeout);
    let new = impatient(dirtyd.socket());
    let error = failure(new.call(APP, "same").arg(1)).await;
    assert_eq!(error.reason, Reason::Connection);
    assert!(
        error.message.contains("connected, but no answer"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dirtyd_that_is_stopped_does_not_hold_a_stream_for_twice_its_timeout() {
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    client.connect().await.unwrap();
    // Its first value comes late, and nothing after it.
    dirtyd.signal("STOP");
    let (limit, late) = (Duration::from_secs(3), Duration::from_secs(2));
    let started = Instant::now();
    let stream = tokio::spawn(
        client
            .call(APP, "count_then_wait")
            .arg(1)
            .timeout(limit)
            .stream(),
    );
    tokio::time::sleep(late).await;
    dirtyd.signal("CONT");
    let mut chunks = stream.await.unwrap().unwrap();
    dirtyd.signal("STOP");
    let last = loop {
        match chunks.next().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert_eq!(last.unwrap().unwrap_err().reason, Reason::Timeout);
    let took = started.elapsed();
    assert!(
        took < limit + late,
        "{took:?}, and a second is for the answer"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_refused() {
    let client = impatient("/nowhere"); // nothing gets that far
    let refused = [
        client.call(APP, "same").arg(json!({"$attachment": 0})),
        client
            .call(APP, "same")
            .arg(json!([{"a": {"$attachment": "x"}}])),
        client
            .call(APP, "same")
            .bytes("x")
            .arg(json!({"$attachment": 1})),
        client.call(APP, "same").kwarg("$attachment", 1),
        client.call(APP, "same").args("no tuple"),
        client.call(APP, "same").arg(1).args_json("[1]"),
        client
            .call(APP, "same")
            .arg(std::collections::HashMap::from([((1, 2), 3)])),
        client.call(APP, "same").timeout(Duration::ZERO),
        client.call(APP, "same").traceparent("a\nb"),
    ];
    for (index, call) in refused.into_iter().enumerate() {
        let error = failure(call).await;
        assert_eq!(error.reason, Reason::InvalidRequest, "{index}: {error}");
    }
    let client = Client::builder()
        .socket("/nowhere")
        .max_message_size(1000)
        .build();
    let error = failure(client.call(APP, "same").bytes(vec![0; 1000])).await;
    assert_eq!(error.reason, Reason::TooLarge);
    assert!(
        error.message.contains("max_message_size is 1000"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_there_is_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let reach = |name: &str| failure(impatient(folder.path().join(name)).call(APP, "same").arg(1));
    let error = reach("absent.sock").await;
    assert_eq!(error.reason, Reason::Connection);
    let path = folder.path().join("absent.sock");
    assert_eq!(
        error.message,
        format!("cannot reach dirtyd: {}: absent", path.display())
    );
    drop(UnixListener::bind(folder.path().join("left.sock")).unwrap());
    assert!(
        reach("left.sock")
            .await
            .message
            .ends_with("left.sock: nobody is listening")
    );
    let _silent = UnixListener::bind(folder.path().join("silent.sock")).unwrap();
    assert!(
        reach("silent.sock")
            .await
            .message
            .contains("connected, but no answer")
    );
    assert!(
        reach(&"x".repeat(120))
            .await
            .message
            .contains("a socket's path has at most 107")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_allowed_learns_it() {
    let mut dirtyd = Dirtyd::new();
    dirtyd.start(&["--allow_uids", "4242"]);
    let refused = || failure(impatient(dirtyd.socket()).call(APP, "same").arg(1));
    let mut error = refused().await;
    for _ in 0..50 {
        if !error.message.contains("no answer") {
            break; // else dirtyd was slow to close it
        }
        error = refused().await;
    }
    assert_eq!(error.reason, Reason::Connection);
    assert!(
        error
            .message
            .contains("accepted and closed at once: check allow_uids"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_dirtyd_to_start() {
    let mut dirtyd = Dirtyd::new();
    let call = tokio::spawn(client_of(&dirtyd).call(APP, "same").arg("early").execute());
    let dirtyd = tokio::task::spawn_blocking(move || {
        dirtyd.start(&[]);
        dirtyd
    });
    assert_eq!(call.await.unwrap().unwrap().value, "early");
    dirtyd.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_first_call_succeeds_soon() {
    let mut dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    for signal in ["KILL", "TERM", "KILL", "TERM"] {
        assert_eq!(
            client.execute(APP, "same", (signal,)).await.unwrap().value,
            signal
        );
        dirtyd.end(signal);
        dirtyd.start(&[]);
        let again = Instant::now();
        assert_eq!(
            client.execute(APP, "same", (signal,)).await.unwrap().value,
            signal
        );
        assert!(again.elapsed() < Duration::from_secs(2));
    }
    dirtyd.end("KILL");
    let error = failure(client.call(APP, "same").timeout(Duration::from_millis(300))).await;
    let socket = dirtyd.socket();
    assert_eq!(
        error.message,
        format!(
            "cannot reach dirtyd: {}: nobody is listening",
            socket.display()
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_cut_off_is_not_sent_again() {
    let mut dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    let call = tokio::spawn(client.call(APP, "wait").arg(1000).execute());
    let mut chunks = client.stream(APP, "count_then_wait", (1,)).await.unwrap();
    dirtyd.wait_for_line("counted, waiting");
    dirtyd.wait_for_line("INFO waiting");
    dirtyd.end("KILL");
    dirtyd.start(&[]);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::OutcomeUnknown, "{error}");
    assert!(
        error
            .message
            .starts_with("outcome unknown: the connection to "),
        "{error}"
    );
    assert_eq!(chunks.next().await.unwrap().unwrap().value, 0);
    assert_eq!(
        chunks.next().await.unwrap().unwrap_err().reason,
        Reason::OutcomeUnknown
    );
    assert_eq!(client.execute(APP, "same", (1,)).await.unwrap().value, 1);
    assert!(!dirtyd.has_line("waiting"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_one_client() {
    let dirtyd = Dirtyd::ready();
    let client = client_of(&dirtyd);
    let calls: Vec<_> = (0..200)
        .map(|i| tokio::spawn(client.call(APP, "same").arg(i).execute()))
        .collect();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap().value, Value::from(i));
    }
}
