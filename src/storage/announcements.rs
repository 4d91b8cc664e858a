//! After a commit: which databases grew, for whoever follows them. News travels upward only as these values.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::batch::Announcement;

/// The newest position of each followed topic.
#[derive(Debug, Default)]
pub struct Announcements {
    topics: Mutex<HashMap<u32, watch::Sender<u64>>>,
}

impl Announcements {
    /// Follows a topic. The receiver first shows `position` or anything newer.
    pub fn follow(&self, topic: u32, position: u64) -> watch::Receiver<u64> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.entry(topic).or_insert_with(|| watch::Sender::new(position)).subscribe()
    }

    /// Ends a topic: followers learn that nothing more comes.
    pub fn end(&self, topic: u32) {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).remove(&topic);
    }

    pub(super) fn publish(&self, announcements: &[Announcement]) {
        if announcements.is_empty() {
            return;
        }
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for Announcement { topic, position } in announcements {
            if let Some(sender) = topics.get(topic) {
                sender.send_if_modified(|newest| {
                    let grew = *position > *newest;
                    *newest = (*newest).max(*position);
                    grew
                });
            }
        }
    }
}
