//! Refusals over the cluster, and what is a defect of the server.

use super::Effect::Exits;
use super::Refusal;

const NODES: &str = "Compare `--replica-id` and `[[cluster.nodes]]` with the other nodes; change the configuration, not the data.";

pub const REFUSALS: &[Refusal] = &[
    Refusal {
        id: "cluster-node",
        signs: &[
            "no node is configured for replica",
            "ClusterNodeNotFound",
            "MissingReplicaId",
            "requires --replica-id to identify",
        ],
        meaning: "the server does not know which node of the cluster it is",
        advice: NODES,
        effect: Exits,
    },
    Refusal {
        id: "cluster-too-large",
        signs: &[
            "exceeds supported u8 replica count",
            "ClusterReplicaCountTooLarge",
            "more than 255 replicas",
        ],
        meaning: "the cluster has more nodes than the server takes",
        advice: NODES,
        effect: Exits,
    },
    Refusal {
        id: "replica-without-cluster",
        signs: &["was passed with cluster.enabled=false", "ReplicaIdRequiresCluster"],
        meaning: "--replica-id was given to a server without a cluster, whose journal would keep that number for good",
        advice: "Drop --replica-id, or configure the cluster.",
        effect: Exits,
    },
    Refusal {
        id: "cluster-port",
        signs: &["requires an explicit roster port", "ClusterPortMissing"],
        meaning: "a node of the cluster has no port for a transport that is enabled",
        advice: "Give every node in `[[cluster.nodes]]` a port for each enabled transport, or disable the transport.",
        effect: Exits,
    },
    Refusal {
        id: "cluster-root",
        signs: &["cluster bootstrap with empty metadata requires", "ClusterRootCredentialsRequired"],
        meaning: "a cluster without metadata needs IGGY_ROOT_USERNAME and IGGY_ROOT_PASSWORD. Where there were streams, the metadata is gone",
        advice: "Look at `system.path` and metadata/ first. Set both variables only where the cluster is new.",
        effect: Exits,
    },
    Refusal {
        id: "cluster-value",
        signs: &["Invalid cluster configuration"],
        meaning: "a setting of the cluster is not valid; the line says which",
        advice: NODES,
        effect: Exits,
    },
    Refusal {
        id: "defect",
        signs: &[
            "failed to construct IggyShard",
            "ShardConstruction(",
            "failed to build the HTTP forward client",
            "HttpForwardClient",
        ],
        meaning: "the server could not be put together: a defect of it, or no memory",
        advice: "Keep the line, and ask the project with the server's version.",
        effect: Exits,
    },
];
