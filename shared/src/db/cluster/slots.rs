//! Which node of a Cluster has which slot.

use std::collections::HashMap;
use std::fmt;

use redis::cluster_routing::Slot;
use redis::{FromRedisValue as _, Value};

/// The address of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The owner of each slot.
#[derive(Debug, Default)]
pub(super) struct SlotMap {
    owners: HashMap<Slot, Address>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// Parses `host:port`. A node that does not know its own host leaves it out: then it is that of the node which told.
    pub(super) fn parse(text: &str, told_by: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { told_by.host.clone() } else { host.to_owned() };
        Some(Self { host, port: port.parse().ok()? })
    }
}

impl SlotMap {
    /// The map from the reply to `CLUSTER SLOTS`: ranges of slots, each with its first and last slot, its master, and its replicas.
    pub(super) fn parse(reply: Value, told_by: &Address) -> Option<Self> {
        let mut owners = HashMap::new();
        for range in Vec::<Vec<Value>>::from_redis_value(reply).ok()? {
            let mut fields = range.into_iter();
            let (first, last) = (number(fields.next()?)?, number(fields.next()?)?);
            let mut master = Vec::<Value>::from_redis_value(fields.next()?).ok()?.into_iter();
            let host = master.next().and_then(|host| Option::<String>::from_redis_value(host).ok()).flatten();
            let port = number(master.next()?)?;
            let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| told_by.host.clone());
            let owner = Address { host, port };
            owners.extend((first..=last).filter_map(Slot::new).map(|slot| (slot, owner.clone())));
        }
        Some(Self { owners })
    }

    /// The node that has a slot.
    pub(super) fn owner(&self, slot: Slot) -> Option<Address> {
        self.owners.get(&slot).cloned()
    }

    /// Records that a slot has moved.
    pub(super) fn set_owner(&mut self, slot: Slot, owner: Address) {
        self.owners.insert(slot, owner);
    }

    /// Every node that has a slot, each once, in no particular order.
    pub(super) fn masters(&self) -> Vec<Address> {
        let mut masters: Vec<Address> = Vec::new();
        for owner in self.owners.values() {
            if !masters.contains(owner) {
                masters.push(owner.clone());
            }
        }
        masters
    }
}

fn number(value: Value) -> Option<u16> {
    u16::from_redis_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        let id = Value::BulkString(b"id".to_vec());
        Value::Array(vec![Value::BulkString(host.as_bytes().to_vec()), Value::Int(port), id])
    }

    #[test]
    fn each_slot_has_the_master_of_its_range() -> Result<(), &'static str> {
        let range = |first, last, master| {
            Value::Array(vec![Value::Int(first), Value::Int(last), master, node("10.0.0.9", 7009)])
        };
        let reply = Value::Array(vec![range(0, 8191, node("10.0.0.1", 7001)), range(8192, 16383, node("", 7002))]);
        let told_by = Address { host: "10.0.0.2".into(), port: 7002 };
        let mut map = SlotMap::parse(reply, &told_by).ok_or("a map")?;
        let owner_of = |map: &SlotMap, n| map.owner(Slot::new(n)?).map(|owner| owner.to_string());
        assert_eq!(owner_of(&map, 8191).as_deref(), Some("10.0.0.1:7001"));
        assert_eq!(owner_of(&map, 8192).as_deref(), Some("10.0.0.2:7002"), "it does not know its own host");
        assert_eq!(map.masters().len(), 2);
        let moved = Address::parse("[::1]:7003", &told_by).ok_or("an address")?;
        map.set_owner(Slot::new(5).ok_or("a slot")?, moved);
        assert_eq!(owner_of(&map, 5).as_deref(), Some("[::1]:7003"));
        assert!(SlotMap::parse(Value::Okay, &told_by).is_none());
        Ok(())
    }
}
