//! Ids of topics: what tells a topic from another that was created later under its name.
//!
//! librdkafka knows them and the `rdkafka` crate does not pass them on, so this file speaks to librdkafka itself. It is
//! the only one that does.
#![expect(unsafe_code, reason = "`DescribeTopics` of librdkafka has no safe wrapper in rdkafka 0.39")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::Error;
use super::client::{Cluster, Words};

/// The ids of those of `topics` that the cluster has. Brokers before Kafka 2.8 have none.
pub(super) async fn topic_ids(cluster: &Cluster, topics: &[String]) -> Result<BTreeMap<String, String>, Error> {
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let topics = topics.to_vec();
    cluster.ask("asking for ids of topics", move |client, timeout| describe(client, &topics, timeout)).await
}

/// A native object and how it is freed.
struct Owned<T> {
    raw: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// `destroy` is the function that librdkafka names for objects such as `raw`; a null stands for `error`.
    fn new(raw: *mut T, destroy: unsafe extern "C" fn(*mut T), error: RDKafkaErrorCode) -> KafkaResult<Self> {
        NonNull::new(raw).map(|raw| Owned { raw, destroy }).ok_or(KafkaError::AdminOp(error))
    }

    fn ptr(&self) -> *mut T {
        self.raw.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `raw` came from librdkafka, is freed by its own function, and nobody else frees it.
        unsafe { (self.destroy)(self.raw.as_ptr()) }
    }
}

fn describe(
    client: &BaseConsumer<Words>,
    topics: &[String],
    timeout: Duration,
) -> KafkaResult<BTreeMap<String, String>> {
    const OP: native::rd_kafka_admin_op_t = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let (refused, late) = (RDKafkaErrorCode::InvalidArgument, RDKafkaErrorCode::OperationTimedOut);
    let names: Vec<CString> = topics.iter().map(|topic| CString::new(topic.as_str())).collect::<Result<_, _>>()?;
    let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let (client, millis) = (client.client().native_ptr(), i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
    let mut reason: [c_char; 256] = [0; 256];
    // SAFETY: `client` outlives this call; names, collection and options outlive the call that reads them, which copies
    // what it keeps; `reason` is as long as it is said to be.
    let queue = unsafe {
        let (wanted, n) = (names.as_mut_ptr(), names.len());
        let wanted = native::rd_kafka_TopicCollection_of_topic_names(wanted, n);
        let wanted = Owned::new(wanted, native::rd_kafka_TopicCollection_destroy, refused)?;
        let options = native::rd_kafka_AdminOptions_new(client, OP);
        let options = Owned::new(options, native::rd_kafka_AdminOptions_destroy, refused)?;
        let (text, n) = (reason.as_mut_ptr(), reason.len());
        checked(native::rd_kafka_AdminOptions_set_request_timeout(options.ptr(), millis, text, n))?;
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy, refused)?;
        native::rd_kafka_DescribeTopics(client, wanted.ptr(), options.ptr(), queue.ptr());
        queue
    };
    // SAFETY: the queue is ours. The request ends by its own timeout; waiting longer than that would say nothing more.
    let event = unsafe { native::rd_kafka_queue_poll(queue.ptr(), millis) };
    let event = Owned::new(event, native::rd_kafka_event_destroy, late)?;
    // SAFETY: the event is of the kind that was asked for, or librdkafka gives null; its parts live as long as it does.
    unsafe {
        checked(native::rd_kafka_event_error(event.ptr()))?;
        let result = native::rd_kafka_event_DescribeTopics_result(event.ptr());
        let mut n = 0;
        let first = if result.is_null() {
            std::ptr::null_mut()
        } else {
            native::rd_kafka_DescribeTopics_result_topics(result, &mut n)
        };
        (0..n).filter_map(|i| id_of(*first.add(i)).transpose()).collect()
    }
}

/// Name and id of a described topic; none if there is no such topic, or if the broker gives no ids.
///
/// # Safety
/// `topic` is a description that librdkafka holds.
unsafe fn id_of(topic: *const native::rd_kafka_TopicDescription_t) -> KafkaResult<Option<(String, String)>> {
    // SAFETY: the parts of a description live as long as it does; the name ends with a zero.
    unsafe {
        match checked(native::rd_kafka_error_code(native::rd_kafka_TopicDescription_error(topic))) {
            Err(error) if super::severity(&error) == super::Severity::Missing => return Ok(None),
            outcome => outcome?,
        }
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        if id.is_null() {
            return Ok(None);
        }
        let bits = (native::rd_kafka_Uuid_most_significant_bits(id), native::rd_kafka_Uuid_least_significant_bits(id));
        let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
        Ok((bits != (0, 0)).then(|| (name, format!("{:016x}{:016x}", bits.0, bits.1))))
    }
}

fn checked(code: RDKafkaRespErr) -> KafkaResult<()> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(KafkaError::AdminOp(code.into())),
    }
}
