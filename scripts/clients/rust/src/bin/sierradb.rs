//! The crate sierradb-client as it is on crates.io: `sierradb NAME PORT`.
//!
//! The same checks as in checks.mjs, asked for in the same way, as far as the crate goes by its typed commands and its
//! subscription manager; then each of their methods once.
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use esker_clients::{KEY, Outcome, PIPELINE, Trouble, answer, first_answer};
use futures_util::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisResult, Value, cmd};
use sierradb_client::{
    AppendInfo, AsyncTypedCommands, EAppendOptions, EMAppendEvent, ErrorCode, Event, EventBatch, EventSubscription,
    ExpectedVersion, PipelineExt, SierraAsyncClientExt, SierraError, SierraMessage, TypedCommands,
    stream_partition_key,
};
use tokio::time::timeout;
use uuid::Uuid;

const MESSAGE_MAX: Duration = Duration::from_secs(10);
const PARTITIONS: u16 = 32;
const WINDOW: u32 = 100;

struct Subject {
    name: String,
    client: Client,
    connection: Option<ConnectionManager>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [name, port] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .expect("two arguments");
    let client = Client::open(format!("redis://127.0.0.1:{port}?protocol=resp3")).expect("a URL");
    let mut subject = Subject {
        name,
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
            "typed commands" => self.typed_commands().await,
            "subscribe to streams" => self.subscribe_to_streams().await,
            "subscribe to partitions" => self.subscribe_to_partitions().await,
            "subscribe to all" => self.subscribe_to_all().await,
            _ => Err(Trouble::Failed("there is no such check".into())),
        }
    }

    fn connection(&self) -> ConnectionManager {
        self.connection.clone().expect("connected")
    }

    async fn append_event(&self, stream: &str, name: &str, options: EAppendOptions<'_>) -> RedisResult<AppendInfo> {
        self.connection().eappend(stream, name, options).await
    }

    async fn connect(&mut self) -> Outcome {
        self.connection = Some(self.client.get_connection_manager().await?);
        let hello = self.connection().hello(3).await?;
        assert_eq!((hello.server.as_str(), hello.num_partitions), ("esker", PARTITIONS));
        assert_eq!(self.connection().ping().await?, "PONG");
        Ok(String::new())
    }

    async fn append(&self) -> Outcome {
        let options = EAppendOptions::new()
            .expected_version(ExpectedVersion::Empty)
            .payload(br#"{"a": 1}"#.as_slice());
        let info = self.append_event(&self.name, "Created", options).await?;
        assert_eq!(
            (info.stream_version, info.partition_key),
            (0, stream_partition_key(&self.name))
        );
        assert_eq!(self.connection().esver(&self.name).await?, Some(0));
        assert_eq!(self.connection().esver(&format!("{}-nothing", self.name)).await?, None);
        Ok(String::new())
    }

    async fn wrong_version(&self) -> Outcome {
        let options = EAppendOptions::new().expected_version(ExpectedVersion::Empty);
        let error = self
            .append_event(&self.name, "Created", options)
            .await
            .expect_err("it was accepted");
        match SierraError::from(error) {
            SierraError::Protocol {
                code: ErrorCode::WrongVer,
                message: Some(message),
            } => {
                assert!(message.contains("current version 0"), "{message}");
            }
            error => panic!("{error:?}"),
        }
        Ok(String::new())
    }

    async fn scan(&self) -> Outcome {
        let options = EAppendOptions::new()
            .expected_version(ExpectedVersion::Exact(0))
            .metadata(b"m".as_slice());
        self.append_event(&self.name, "Changed", options).await?;
        let batch = self.connection().escan(&self.name, 0, None, None).await?;
        assert!(!batch.has_more);
        assert_eq!(names(&batch.events), ["Created", "Changed"]);
        assert_eq!(
            (batch.events[0].payload.as_slice(), batch.events[1].stream_version),
            (br#"{"a": 1}"#.as_slice(), 1)
        );
        assert_eq!(batch.events[1].metadata, b"m");
        assert!(self.connection().escan(&self.name, 0, None, Some(1)).await?.has_more);
        Ok(String::new())
    }

    async fn append_many(&self) -> Outcome {
        let [a, b] = ["a", "b"].map(|end| format!("{}-{end}", self.name));
        let events = [
            EMAppendEvent::new(&a, "A1").payload(b"1".as_slice()),
            EMAppendEvent::new(&b, "B1"),
            EMAppendEvent::new(&a, "A2").expected_version(ExpectedVersion::Exact(0)),
        ];
        let info = self.connection().emappend(key(), &events).await?;
        assert_eq!(info.last_partition_sequence - info.first_partition_sequence, 2);
        let found: Vec<_> = info
            .events
            .iter()
            .map(|event| (&event.stream_id, event.stream_version))
            .collect();
        assert_eq!(found, [(&a, 0), (&b, 0), (&a, 1)]);
        assert_eq!(self.connection().esver_with_partition_key(&a, key()).await?, Some(1));
        Ok(String::new())
    }

    async fn binary(&self) -> Outcome {
        let payload: Vec<u8> = (0..1024 * 1024)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let options = EAppendOptions::new().payload(&payload);
        let info = self
            .append_event(&format!("{}-binary", self.name), "Blob", options)
            .await?;
        let event = self.connection().eget(info.event_id).await?.expect("the event");
        assert!(event.payload == payload, "the payload comes back as it was");
        Ok(String::new())
    }

    async fn pipeline(&self) -> Outcome {
        let stream = format!("{}-pipeline", self.name);
        let mut pipe = redis::pipe();
        for i in 0..PIPELINE {
            pipe.eappend(&stream, format!("E{i}"), EAppendOptions::new());
        }
        let answers: Vec<AppendInfo> = pipe.query_async(&mut self.connection()).await?;
        let versions: Vec<_> = answers.iter().map(|answer| answer.stream_version as i64).collect();
        assert_eq!(versions, (0..PIPELINE).collect::<Vec<_>>());
        Ok(String::new())
    }

    async fn multi(&self) -> Outcome {
        let stream = format!("{}-multi", self.name);
        let mut pipe = redis::pipe();
        pipe.atomic().eappend(&stream, "E", EAppendOptions::new());
        pipe.query_async::<Value>(&mut self.connection())
            .await
            .expect_err("it was accepted");
        assert_eq!(self.connection().esver(&stream).await?, None);
        Ok(String::new())
    }

    /// The crate has no method for EREAD, but its types read the reply.
    async fn read(&self, block_ms: u64, from: u64) -> RedisResult<Option<EventBatch>> {
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
        assert_eq!(names(&self.read(10_000, 0).await?.expect("not null").events), ["Woken"]);
        Ok(String::new())
    }

    async fn read_null(&self) -> Outcome {
        assert_eq!(self.read(50, 1).await?, None);
        Ok(String::new())
    }

    async fn push(&self) -> Outcome {
        let stream = format!("{}-live", self.name);
        let append = async |name: &str| self.append_event(&stream, name, EAppendOptions::new()).await;
        append("First").await?;
        append("Second").await?;
        let mut manager = self.client.subscription_manager().await?;
        let mut subscription = manager
            .subscribe_to_stream_from_version_with_window(&stream, 0, 2)
            .await?;
        match subscription.next_message().await {
            Some(SierraMessage::SubscriptionConfirmed { subscription_count: 1 }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(names(&take(&mut subscription, 0, 2).await), ["First", "Second"]);
        append("Live").await?;
        subscription.acknowledge_up_to_cursor(1).await?;
        assert_eq!(names(&take(&mut subscription, 2, 1).await), ["Live"]);
        subscription.unsubscribe().await?;
        Ok("without EUNSUB: the crate unsubscribes on its own side only".into())
    }

    /// The client finds its way back by itself: it reads the events that were there, and appends one.
    async fn again(&self, count: u64) -> Outcome {
        let (batch, note) = first_answer(async || self.connection().escan(&self.name, 0, None, None).await).await?;
        assert_eq!(batch.events.len() as u64, count);
        let options = EAppendOptions::new().expected_version(ExpectedVersion::Exact(count - 1));
        self.append_event(&self.name, "Again", options).await?;
        Ok(note)
    }

    async fn typed_commands(&self) -> Outcome {
        let mut connection = self.connection();
        let stream = format!("{}-typed", self.name);
        let key = key();
        let time = std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let first = EAppendOptions::new()
            .partition_key(key)
            .timestamp(time)
            .payload(b"p".as_slice());
        let info = connection.eappend(&stream, "First", first.clone()).await?;
        assert_eq!((info.partition_key, info.timestamp), (key, time));
        let repeated = connection
            .eappend(&stream, "First", first.event_id(info.event_id))
            .await?;
        assert_eq!(repeated, info);
        let exists = EAppendOptions::new()
            .partition_key(key)
            .expected_version(ExpectedVersion::Exists);
        connection.eappend(&stream, "Second", exists).await?;
        assert_eq!(connection.eget(Uuid::nil()).await?, None);
        assert_eq!(
            connection.eget(info.event_id).await?.expect("the event").timestamp,
            time
        );

        let scanned = connection
            .escan_with_partition_key(&stream, key, 1, Some(1), Some(10))
            .await?;
        assert_eq!(names(&scanned.events), ["Second"]);
        assert_eq!(connection.esver_with_partition_key(&stream, key).await?, Some(1));
        assert_eq!(
            connection.esver(&stream).await?,
            None,
            "under its own key it is another stream"
        );
        let (partition, sequence) = (info.partition_id, info.partition_sequence);
        let by_key = connection
            .epscan_by_key(key, sequence, Some(sequence + 1), None)
            .await?;
        assert_eq!(names(&by_key.events), ["First", "Second"]);
        assert_eq!(
            connection
                .epscan_by_id(partition, sequence, None, Some(2))
                .await?
                .events,
            by_key.events
        );
        assert_eq!(
            connection.epseq_by_key(key).await?,
            connection.epseq_by_id(partition).await?
        );
        let error = SierraError::from(
            connection
                .eack(Uuid::new_v4(), 0)
                .await
                .expect_err("no such subscription"),
        );
        assert_eq!(error.error_code(), Some(ErrorCode::NotFound));

        // The crate expects a map that no server sends: they subscribe, and then fail on their own side.
        let mut link = self.client.get_multiplexed_async_connection().await?;
        let subscribed = [
            link.esub(&stream).await,
            link.esub_with_partition_key(&stream, key).await,
            link.esub_from_version(&stream, 0).await,
            link.esub_with_partition_and_version(&stream, key, 0).await,
            link.epsub_by_key(key).await,
            link.epsub_by_id(partition).await,
            link.epsub_by_key_from_sequence(key, sequence).await,
            link.epsub_by_id_from_sequence(partition, sequence).await,
        ];
        for outcome in subscribed {
            assert_eq!(outcome.expect_err("a map of the server").kind(), ErrorKind::Parse);
        }

        // The same commands without async.
        let mut blocking = self.client.get_connection()?;
        assert_eq!(TypedCommands::ping(&mut blocking)?, "PONG");
        assert_eq!(
            TypedCommands::escan_with_partition_key(&mut blocking, &stream, key, 0, None, None)?
                .events
                .len(),
            2
        );
        Ok("the crate fails on its own side after esub and epsub, as with SierraDB".into())
    }

    async fn subscribe_to_streams(&self) -> Outcome {
        let (stream, key) = (format!("{}-followed", self.name), key());
        let append = async |name: &str| {
            self.append_event(&stream, name, EAppendOptions::new()).await?;
            self.append_event(&stream, name, EAppendOptions::new().partition_key(key))
                .await
        };
        append("First").await?;
        append("Second").await?;
        let mut m = self.client.subscription_manager().await?;
        let own = stream_partition_key(&stream);
        let subscriptions = [
            (own, ["Live", "Later"], m.subscribe_to_stream(&stream).await?),
            (
                own,
                ["Live", "Later"],
                m.subscribe_to_stream_with_window(&stream, WINDOW).await?,
            ),
            (
                own,
                ["Live", "Later"],
                m.subscribe_to_stream_from_latest(&stream).await?,
            ),
            (
                own,
                ["Second", "Live"],
                m.subscribe_to_stream_from_version(&stream, 1).await?,
            ),
            (
                own,
                ["Second", "Live"],
                m.subscribe_to_stream_from_version_with_window(&stream, 1, WINDOW)
                    .await?,
            ),
            (
                key,
                ["Live", "Later"],
                m.subscribe_to_stream_with_partition_key(&stream, key).await?,
            ),
            (
                key,
                ["Live", "Later"],
                m.subscribe_to_stream_with_partition_key_and_window(&stream, key, WINDOW)
                    .await?,
            ),
            (
                key,
                ["Second", "Live"],
                m.subscribe_to_stream_with_partition_and_version(&stream, key, 1)
                    .await?,
            ),
            (
                key,
                ["Second", "Live"],
                m.subscribe_to_stream_with_partition_and_version_and_window(&stream, key, 1, WINDOW)
                    .await?,
            ),
        ];
        append("Live").await?;
        append("Later").await?;
        for (key, wanted, mut subscription) in subscriptions {
            let events = take(&mut subscription, 0, wanted.len()).await;
            assert_eq!(names(&events), wanted);
            assert!(
                events
                    .iter()
                    .all(|event| event.partition_key == key && event.stream_id == stream)
            );
            m.acknowledge_up_to_cursor(subscription.subscription_id(), 1).await?;
        }
        let mut messages = Box::pin(m.subscribe_to_stream_from_version(&stream, 0).await?.into_stream());
        assert!(matches!(
            messages.next().await,
            Some(SierraMessage::SubscriptionConfirmed { .. })
        ));
        assert!(matches!(
            messages.next().await,
            Some(SierraMessage::Event { cursor: 0, .. })
        ));
        Ok("9 methods".into())
    }

    async fn subscribe_to_partitions(&self) -> Outcome {
        let mut heads = self.heads().await?;
        let (p, n, key) = self.two_events(&mut heads).await?;
        let q = (p + 5) % PARTITIONS;
        let (live, both) = (
            BTreeMap::from([(p, heads[&p])]),
            BTreeMap::from([(p, n), (q, heads[&q])]),
        );
        let one = BTreeMap::from([(p, n)]);
        let mut m = self.client.subscription_manager().await?;
        let w = Some(WINDOW);
        let from: HashMap<u16, u64> = both.clone().into_iter().collect();
        // A range starts at one number for all.
        let (low, high) = (p.min(q), p.max(q));
        let ranged: BTreeMap<u16, u64> = (low..=high).map(|partition| (partition, n)).collect();
        let listed = BTreeMap::from([(p, n), (q, n)]);
        let subscriptions = [
            (&live, m.subscribe_to_partition(p).await?),
            (&live, m.subscribe_to_partition_with_window(p, WINDOW).await?),
            (&one, m.subscribe_to_partition_from_sequence(p, n).await?),
            (
                &one,
                m.subscribe_to_partition_from_sequence_with_window(p, n, WINDOW).await?,
            ),
            (&live, m.subscribe_to_partition_key(key).await?),
            (&live, m.subscribe_to_partition_key_with_window(key, WINDOW).await?),
            (&one, m.subscribe_to_partition_key_from_sequence(key, n).await?),
            (
                &one,
                m.subscribe_to_partition_key_from_sequence_with_window(key, n, WINDOW)
                    .await?,
            ),
            (&one, m.subscribe_to_partitions(&p.to_string(), n, None).await?),
            (&listed, m.subscribe_to_partitions(&format!("{p},{q}"), n, w).await?),
            (
                &ranged,
                m.subscribe_to_partitions(&format!("{low}-{high}"), n, w).await?,
            ),
            (&ranged, m.subscribe_to_partition_range(low, high, n, w).await?),
            (&both, m.subscribe_to_partitions_with_sequences(from, w).await?),
        ];
        self.follow_until_live(key, subscriptions).await?;
        Ok("11 methods".into())
    }

    async fn subscribe_to_all(&self) -> Outcome {
        let mut heads = self.heads().await?;
        let (p, n, key) = self.two_events(&mut heads).await?;
        let highest = *heads.values().max().expect("partitions");
        let all = |number| {
            (0..PARTITIONS)
                .map(|partition| (partition, number))
                .collect::<BTreeMap<_, _>>()
        };
        let from = |mut starts: BTreeMap<_, _>| {
            starts.insert(p, n);
            starts
        };
        let (every, ahead, latest) = (all(0), all(highest), heads);
        let (p_ahead, p_latest) = (from(ahead.clone()), from(latest.clone()));
        let mut m = self.client.subscription_manager().await?;
        let (map, none, w) = (HashMap::from([(p, n)]), HashMap::new(), Some(WINDOW));
        let subscriptions = [
            (&every, m.subscribe_to_partitions("*", 0, w).await?),
            (&every, m.subscribe_to_all_partitions(0, w).await?),
            (&latest, m.subscribe_to_all_partitions_from_latest().await?),
            (
                &p_ahead,
                m.subscribe_to_all_partitions_with_fallback(map.clone(), highest, w)
                    .await?,
            ),
            (
                &latest,
                m.subscribe_to_all_partitions_flexible(none.clone(), None, w).await?,
            ),
            (&every, m.subscribe_to_all_partitions_flexible(none, Some(0), w).await?),
            (
                &p_latest,
                m.subscribe_to_all_partitions_flexible(map.clone(), None, None).await?,
            ),
            (
                &p_ahead,
                m.subscribe_to_all_partitions_flexible(map, Some(highest), w).await?,
            ),
        ];
        self.follow_until_live(key, subscriptions).await?;
        Ok("5 methods".into())
    }

    /// The next sequence of each partition.
    async fn heads(&self) -> RedisResult<BTreeMap<u16, u64>> {
        let mut heads = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let last = self.connection().epseq_by_id(partition).await?;
            heads.insert(partition, last.map_or(0, |last| last + 1));
        }
        Ok(heads)
    }

    /// Appends two events under a new key: their partition, the sequence of the first, the key.
    async fn two_events(&self, heads: &mut BTreeMap<u16, u64>) -> RedisResult<(u16, u64, Uuid)> {
        let key = Uuid::new_v4();
        let events = [
            EMAppendEvent::new(&self.name, "First"),
            EMAppendEvent::new(&self.name, "Second"),
        ];
        let info = self.connection().emappend(key, &events).await?;
        assert_eq!(
            info.first_partition_sequence, heads[&info.partition_id],
            "nobody else appends"
        );
        heads.insert(info.partition_id, info.last_partition_sequence + 1);
        Ok((info.partition_id, info.first_partition_sequence, key))
    }

    /// Appends one more, and reads each subscription up to it: from its starts on, every event of its partitions, in
    /// order, and none of others.
    async fn follow_until_live<const N: usize>(
        &self,
        key: Uuid,
        subscriptions: [(&BTreeMap<u16, u64>, EventSubscription); N],
    ) -> RedisResult<()> {
        let options = EAppendOptions::new().partition_key(key);
        let live = self.append_event(&self.name, "Live", options).await?.event_id;
        for (i, (starts, mut subscription)) in subscriptions.into_iter().enumerate() {
            let mut next = starts.clone();
            for cursor in 0.. {
                let event = take(&mut subscription, cursor, 1).await.remove(0);
                let wanted = next
                    .get_mut(&event.partition_id)
                    .expect("a partition that was asked for");
                assert_eq!(
                    event.partition_sequence, *wanted,
                    "partition {} of {i}",
                    event.partition_id
                );
                *wanted += 1;
                if event.event_id == live {
                    break;
                }
                // Half of the window is left for what is under way.
                if cursor % u64::from(WINDOW / 2) == 0 {
                    subscription.acknowledge_up_to_cursor(cursor).await?;
                }
            }
        }
        Ok(())
    }
}

/// The next events of a subscription, the first of them with this cursor.
async fn take(subscription: &mut EventSubscription, cursor: u64, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        match timeout(MESSAGE_MAX, subscription.next_message())
            .await
            .expect("a message in time")
        {
            Some(SierraMessage::Event { event, cursor: found }) => {
                assert_eq!(found, cursor + events.len() as u64);
                events.push(event);
            }
            Some(SierraMessage::SubscriptionConfirmed { .. }) => {}
            None => panic!("the subscription was closed"),
        }
    }
    events
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.event_name.as_str()).collect()
}

fn key() -> Uuid {
    KEY.parse().expect("a UUID")
}
