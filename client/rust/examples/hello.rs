//! What README.md shows.

use std::time::Duration;

use dirty_client::{Client, Reason};

#[tokio::main]
async fn main() -> Result<(), dirty_client::Error> {
    let client = Client::new(); // to $DIRTY_SOCKET, or dirtyd's default
    let response = client.execute("hello:Hello", "greet", ("you",)).await?;
    println!("{}", response.value);

    let call = client
        .call("hello:Hello", "greet")
        .arg("you")
        .kwarg("mark", "?");
    println!(
        "{}",
        call.timeout(Duration::from_secs(10)).execute().await?.value
    );

    let mut chunks = client.stream("hello:Hello", "count", (2,)).await?;
    while let Some(chunk) = chunks.next().await {
        println!("{}", chunk?.value);
    }

    let photo: &[u8] = b"\xff\xd8\xff\xe0";
    let response = client
        .call("hello:Hello", "mirror")
        .bytes(photo)
        .execute()
        .await?;
    println!("{:?}", response.bytes(&response.value));

    match client.execute("hello:Hello", "sing", ()).await {
        Err(error) if error.reason == Reason::AppError => println!("{error}"),
        other => println!("{other:?}"),
    }
    Ok(())
}
