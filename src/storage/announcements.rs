//! After a commit: which databases grew, for whoever follows them. News travels upward only as these values.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::batch::Announcement;

/// The newest position of each followed topic.
#[derive(Debug, Default)]
pub struct Announcements {
    topics: Mutex<HashMap<u64, watch::Sender<u64>>>,
}

impl Announcements {
    /// Follows a topic. The receiver first shows `position` or anything newer.
    pub fn follow(&self, topic: u64, position: u64) -> watch::Receiver<u64> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.entry(topic).or_insert_with(|| watch::Sender::new(position)).subscribe()
    }

    /// Ends topics: their followers learn that nothing more comes.
    pub fn end(&self, ended: impl Fn(u64) -> bool) {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).retain(|topic, _| !ended(*topic));
    }

    pub(super) fn publish(&self, announcements: &[Announcement]) {
        if announcements.is_empty() {
            return;
        }
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for Announcement { topic, position } in announcements {
            if let Some(sender) = topics.get(topic) {
                if sender.receiver_count() == 0 {
                    topics.remove(topic);
                    continue;
                }
                sender.send_if_modified(|newest| {
                    let grew = *position > *newest;
                    *newest = (*newest).max(*position);
                    grew
                });
            }
        }
    }
}
