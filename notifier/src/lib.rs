//! Events become mail and Slack messages, each alert once.
