//! The outbox: links that reach people through a gateway, whatever the gateway and the machine do; and news of the audit log.
//!
//! `gateway` plays the other side; `messages` is about what is sent and when; `failures` about gateways that are down, slow or
//! mad, and servers that are killed, `survival` too; `secrets` about where a token must not be; `events` about event webhooks.

mod events;
mod failures;
mod gateway;
mod messages;
mod secrets;
mod survival;
