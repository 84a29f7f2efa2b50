//! redis-rs, whose connection manager finds its way back: `redis_rs default|3 NAME PORT`.
//!
//! The same checks as in checks.mjs, asked for in the same way.
use std::collections::HashMap;
use std::time::Duration;

use esker_clients::{KEY, Outcome, PIPELINE, Trouble, answer, first_answer};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, PushInfo, PushKind, RedisResult, Value, cmd, from_redis_value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

const PUSH_MAX: Duration = Duration::from_secs(10);

type Entries = HashMap<String, Value>;

struct Subject {
    name: String,
    resp3: bool,
    client: Client,
    connection: Option<ConnectionManager>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [protocol, name, port] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .expect("three arguments");
    let resp3 = protocol == "3";
    let url = format!(
        "redis://127.0.0.1:{port}/{}",
        if resp3 { "?protocol=resp3" } else { "" }
    );
    let client = Client::open(url).expect("a URL");
    let mut subject = Subject {
        name,
        resp3,
        client,
        connection: None,
    };
    answer(async |check| subject.run(check).await).await;
}

impl Subject {
    async fn run(&mut self, check: &str) -> Outcome {
        match check {
            "connect" => self.connect().await,
            "append" => self.append().await,
            "WRONGVER" => self.wrong_version().await,
            "scan" => self.scan().await,
            "EMAPPEND" => self.append_many().await,
            "1 MiB binary" => self.binary().await,
            "pipeline of 1,000" => self.pipeline().await,
            "MULTI refused" => self.multi().await,
            "EREAD woken" => self.read_woken().await,
            "EREAD null" => self.read_null().await,
            "push" => self.push().await,
            "after a stop" => self.again(2).await,
            "after kill -9" => self.again(3).await,
            _ => Err(Trouble::Failed("there is no such check".into())),
        }
    }

    async fn call(&self, command: &Cmd) -> RedisResult<Value> {
        let mut connection = self.connection.clone().expect("connected");
        command.query_async(&mut connection).await
    }

    async fn entries(&self, command: &Cmd) -> RedisResult<Entries> {
        Ok(from_redis_value(self.call(command).await?)?)
    }

    async fn connect(&mut self) -> Outcome {
        self.connection = Some(self.client.get_connection_manager().await?);
        assert_eq!(self.call(&cmd("PING")).await?, Value::SimpleString("PONG".into()));
        assert_eq!(self.call(cmd("ECHO").arg("héllo")).await?, bulk("héllo"));
        Ok(String::new())
    }

    async fn append(&self) -> Outcome {
        let answer = self
            .entries(
                cmd("EAPPEND")
                    .arg(&self.name)
                    .arg(&["Created", r#"{"a": 1}"#, "EXPECTED_VERSION", "empty"]),
            )
            .await?;
        assert_eq!(answer["stream_version"], Value::Int(0));
        assert_eq!(self.call(cmd("ESVER").arg(&self.name)).await?, Value::Int(0));
        assert_eq!(
            self.call(cmd("ESVER").arg(format!("{}-nothing", self.name))).await?,
            Value::Nil
        );
        Ok(String::new())
    }

    async fn wrong_version(&self) -> Outcome {
        let words = ["Created", "EXPECTED_VERSION", "empty"];
        let error = self
            .call(cmd("EAPPEND").arg(&self.name).arg(&words))
            .await
            .expect_err("it was accepted");
        assert_eq!(error.code(), Some("WRONGVER"));
        assert!(
            error
                .detail()
                .is_some_and(|detail| detail.contains("current version 0")),
            "{error}"
        );
        Ok(String::new())
    }

    async fn scan(&self) -> Outcome {
        let words = ["Changed", "EXPECTED_VERSION", "0", "METADATA", "m"];
        self.call(cmd("EAPPEND").arg(&self.name).arg(&words)).await?;
        let reply = self.entries(cmd("ESCAN").arg(&self.name).arg(&["-", "+"])).await?;
        assert_eq!(reply["has_more"], self.boolean(false));
        let events = events(&reply)?;
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["event_name"], bulk("Created"));
        assert_eq!(events[0]["payload"], bulk(r#"{"a": 1}"#));
        assert_eq!(events[1]["stream_version"], Value::Int(1));
        assert_eq!(events[1]["metadata"], bulk("m"));
        let newest = self
            .entries(cmd("ESCAN").arg(&self.name).arg(&["+", "-", "COUNT", "1"]))
            .await?;
        assert_eq!(newest["has_more"], self.boolean(true));
        assert_eq!(self::events(&newest)?[0]["event_name"], bulk("Changed"));
        Ok(String::new())
    }

    async fn append_many(&self) -> Outcome {
        let [a, b] = ["a", "b"].map(|end| format!("{}-{end}", self.name));
        let words = [
            KEY,
            &a,
            "A1",
            "PAYLOAD",
            "1",
            &b,
            "B1",
            &a,
            "A2",
            "EXPECTED_VERSION",
            "0",
        ];
        let answer = self.entries(cmd("EMAPPEND").arg(&words)).await?;
        let number = |key: &str| from_redis_value::<i64>(answer[key].clone());
        assert_eq!(
            number("last_partition_sequence")? - number("first_partition_sequence")?,
            2
        );
        assert_eq!(events(&answer)?[2]["stream_version"], Value::Int(1));
        assert_eq!(
            self.call(cmd("ESVER").arg(&[&a, "PARTITION_KEY", KEY])).await?,
            Value::Int(1)
        );
        Ok(String::new())
    }

    async fn binary(&self) -> Outcome {
        let payload: Vec<u8> = (0..1024 * 1024)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let stream = format!("{}-binary", self.name);
        let answer = self
            .entries(cmd("EAPPEND").arg(stream).arg(&["Blob", "PAYLOAD"]).arg(&payload))
            .await?;
        let event = self
            .entries(cmd("EGET").arg(from_redis_value::<String>(answer["event_id"].clone())?))
            .await?;
        assert!(
            event["payload"] == Value::BulkString(payload),
            "the payload comes back as it was"
        );
        Ok(String::new())
    }

    async fn pipeline(&self) -> Outcome {
        let stream = format!("{}-pipeline", self.name);
        let mut pipe = redis::pipe();
        for i in 0..PIPELINE {
            pipe.cmd("EAPPEND")
                .arg(&stream)
                .arg(format!("E{i}"))
                .arg("PAYLOAD")
                .arg(i);
        }
        let mut connection = self.connection.clone().expect("connected");
        let answers: Vec<Entries> = pipe.query_async(&mut connection).await?;
        assert_eq!(answers.len() as i64, PIPELINE);
        for (i, answer) in answers.iter().enumerate() {
            assert_eq!(answer["stream_version"], Value::Int(i as i64));
        }
        Ok(String::new())
    }

    async fn multi(&self) -> Outcome {
        let stream = format!("{}-multi", self.name);
        let mut pipe = redis::pipe();
        pipe.atomic()
            .cmd("EAPPEND")
            .arg(&stream)
            .arg("E")
            .cmd("EAPPEND")
            .arg(&stream)
            .arg("E");
        let mut connection = self.connection.clone().expect("connected");
        pipe.query_async::<Value>(&mut connection)
            .await
            .expect_err("it was accepted");
        assert_eq!(self.call(cmd("ESVER").arg(&stream)).await?, Value::Nil);
        Ok(String::new())
    }

    /// `EREAD` on a connection of its own: a reply has half a second there unless told.
    async fn read(&self, block_ms: u64, from: u64) -> RedisResult<Value> {
        let config = ConnectionManagerConfig::new().set_response_timeout(None);
        let mut connection = self.client.get_connection_manager_with_config(config).await?;
        let mut command = cmd("EREAD");
        command
            .arg("BLOCK")
            .arg(block_ms)
            .arg("STREAMS")
            .arg(format!("{}-woken", self.name))
            .arg(from);
        command.query_async(&mut connection).await
    }

    async fn read_woken(&self) -> Outcome {
        let events = events(&from_redis_value(self.read(10_000, 0).await?)?)?;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["event_name"], bulk("Woken"));
        Ok(String::new())
    }

    async fn read_null(&self) -> Outcome {
        assert_eq!(self.read(50, 1).await?, Value::Nil);
        Ok(String::new())
    }

    async fn push(&self) -> Outcome {
        let stream = format!("{}-live", self.name);
        let mut subscribe = cmd("ESUB");
        subscribe.arg(&stream).arg(&["FROM", "0", "WINDOW", "2"]);
        if !self.resp3 {
            assert_eq!(
                self.call(&subscribe).await.expect_err("it was accepted").code(),
                Some("NOPROTO")
            );
            return Err(Trouble::Skipped("RESP2 has no pushes: ESUB answers NOPROTO"));
        }
        let append = |name| cmd("EAPPEND").arg(&stream).arg(name).clone();
        self.call(&append("First")).await?;
        self.call(&append("Second")).await?;
        let (sender, mut pushes) = unbounded_channel();
        let config = ConnectionManagerConfig::new().set_push_sender(sender);
        let mut connection = self.client.get_connection_manager_with_config(config).await?;
        let id: String = subscribe.query_async(&mut connection).await?;
        let confirmed = next(&mut pushes).await;
        assert_eq!(confirmed.kind, PushKind::Subscribe);
        assert_eq!(confirmed.data, [Value::SimpleString(id.clone()), Value::Int(1)]);
        message(&mut pushes, &id, 0, "First").await?;
        message(&mut pushes, &id, 1, "Second").await?;
        self.call(&append("Live")).await?;
        cmd("PING").exec_async(&mut connection).await?;
        assert!(pushes.is_empty(), "the window holds it back");
        assert_eq!(
            cmd("EACK")
                .arg(&[&id, "1"])
                .query_async::<Value>(&mut connection)
                .await?,
            Value::Okay
        );
        message(&mut pushes, &id, 2, "Live").await?;
        assert_eq!(
            cmd("EUNSUB").arg(&id).query_async::<Value>(&mut connection).await?,
            Value::Okay
        );
        self.call(&append("Late")).await?;
        cmd("PING").exec_async(&mut connection).await?;
        assert!(pushes.is_empty(), "nothing comes any more");
        Ok(String::new())
    }

    /// The client finds its way back by itself: it reads the events that were there, and appends one.
    async fn again(&self, count: usize) -> Outcome {
        let mut scan = cmd("ESCAN");
        scan.arg(&self.name).arg(&["-", "+"]);
        let (reply, note) = first_answer(async || self.entries(&scan).await).await?;
        assert_eq!(events(&reply)?.len(), count);
        self.call(
            cmd("EAPPEND")
                .arg(&self.name)
                .arg(&["Again", "EXPECTED_VERSION"])
                .arg(count - 1),
        )
        .await?;
        Ok(note)
    }

    fn boolean(&self, value: bool) -> Value {
        if self.resp3 {
            Value::Boolean(value)
        } else {
            Value::Int(value.into())
        }
    }
}

fn bulk(text: &str) -> Value {
    Value::BulkString(text.into())
}

fn events(reply: &Entries) -> RedisResult<Vec<Entries>> {
    Ok(from_redis_value(reply["events"].clone())?)
}

async fn next(pushes: &mut UnboundedReceiver<PushInfo>) -> PushInfo {
    timeout(PUSH_MAX, pushes.recv())
        .await
        .expect("a push in time")
        .expect("a link")
}

/// The next push is this event.
async fn message(pushes: &mut UnboundedReceiver<PushInfo>, id: &str, cursor: i64, name: &str) -> RedisResult<()> {
    let PushInfo { kind, data } = next(pushes).await;
    assert_eq!(kind, PushKind::Message);
    assert_eq!(data[..2], [Value::SimpleString(id.into()), Value::Int(cursor)]);
    let event: Entries = from_redis_value(data[2].clone())?;
    assert_eq!(event["event_name"], bulk(name));
    Ok(())
}
