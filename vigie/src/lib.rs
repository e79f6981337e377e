//! The operator's command: demo, dev, check, retrain, config, events, simulate.
