//! Deployments and nodes by id or by name: names work wherever ids do.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::context::Session;

/// An id, or a name to be looked up. What is all digits is an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reference {
    Id(u64),
    Name(String),
}

impl FromStr for Reference {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Reference, Infallible> {
        Ok(text.parse().map_or_else(|_| Reference::Name(text.to_owned()), Reference::Id))
    }
}

impl Display for Reference {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Id(id) => write!(out, "{id}"),
            Reference::Name(name) => out.write_str(name),
        }
    }
}

impl Session {
    /// Returns the id of the deployment that `reference` names.
    ///
    /// # Errors
    /// No deployment has this name, or several have it.
    pub async fn deployment_id(&self, reference: &Reference) -> anyhow::Result<u64> {
        match reference {
            Reference::Id(id) => Ok(*id),
            Reference::Name(name) => {
                resolve(name, "deployment", &self.all(&["deployments"], &[]).await?.items)
            }
        }
    }

    /// Returns the ids of the nodes that `references` name, in their order, each once. Asks the Supervisor only when a
    /// name is among them.
    ///
    /// # Errors
    /// No node has one of the names, or several have it.
    pub async fn node_ids(&self, deployment: &str, references: &[Reference]) -> anyhow::Result<Vec<u64>> {
        let named = references.iter().any(|reference| matches!(reference, Reference::Name(_)));
        let nodes = if named {
            self.all(&["deployments", deployment, "nodes"], &[]).await?.items
        } else {
            Vec::new()
        };
        let mut ids = Vec::new();
        for reference in references {
            let id = match reference {
                Reference::Id(id) => *id,
                Reference::Name(name) => resolve(name, "node", &nodes)?,
            };
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Returns the id of one node.
    ///
    /// # Errors
    /// As [`Session::node_ids`].
    pub async fn node_id(&self, deployment: &str, reference: &Reference) -> anyhow::Result<u64> {
        let ids = self.node_ids(deployment, std::slice::from_ref(reference)).await?;
        Ok(ids.into_iter().next().unwrap_or_default())
    }
}

fn resolve(name: &str, kind: &str, items: &[Value]) -> anyhow::Result<u64> {
    let is_named = |item: &&Value| item.get("name").and_then(Value::as_str) == Some(name);
    let ids: Vec<u64> = items.iter().filter(is_named).filter_map(|item| item.get("id")?.as_u64()).collect();
    match ids.as_slice() {
        [id] => Ok(*id),
        [] => bail!("no {kind} is named `{name}`; {}", known(kind, items)),
        several => {
            let ids: Vec<String> = several.iter().map(u64::to_string).collect();
            bail!("{} {kind}s are named `{name}`; give one of their ids: {}", several.len(), ids.join(", "))
        }
    }
}

/// Names shown in an error; more help nobody.
const SHOWN: usize = 10;

fn known(kind: &str, items: &[Value]) -> String {
    let mut names: BTreeMap<&str, ()> = BTreeMap::new();
    names.extend(items.iter().filter_map(|item| Some((item.get("name")?.as_str()?, ()))));
    let shown: Vec<&str> = names.keys().take(SHOWN).copied().collect();
    match names.len() {
        0 => format!("there is no {kind} with a name; use the id"),
        many if many > SHOWN => format!("{kind}s are {}, and {} more", shown.join(", "), many - SHOWN),
        _ => format!("{kind}s are {}", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_found_once_or_the_error_says_which_there_are() {
        let items =
            [json!({"id": 1, "name": "a"}), json!({"id": 2, "name": "b"}), json!({"id": 3, "name": "b"})];
        assert_eq!(resolve("a", "node", &items).unwrap(), 1);
        let message = |name| resolve(name, "node", &items).unwrap_err().to_string();
        assert_eq!(message("b"), "2 nodes are named `b`; give one of their ids: 2, 3");
        assert_eq!(message("c"), "no node is named `c`; nodes are a, b");
        assert_eq!(
            resolve("c", "node", &[]).unwrap_err().to_string(),
            "no node is named `c`; there is no node with a name; use the id"
        );
    }

    #[test]
    fn digits_are_an_id() {
        assert_eq!("611298765432109056".parse(), Ok(Reference::Id(611_298_765_432_109_056)));
        assert_eq!("vm-1".parse(), Ok(Reference::Name("vm-1".to_owned())));
    }
}
