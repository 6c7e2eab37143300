//! Is each step of growing taken only when the one before it is done?

use super::*;
use crate::api::v1alpha1::KafkaCluster;
use crate::identity::{Known, assign};

/// The plan for a pool of two with this storage, from `size class` of its template and `requested capacity` of each claim.
fn planned(storage: &str, template: Option<&str>, claims: [&str; 2]) -> Plan {
    let yaml = format!(
        "metadata: {{name: shop, namespace: default}}\napiVersion: tidemark.dev/v1alpha1\nkind: KafkaCluster\nspec: {{pools: [{{name: a, roles: [broker, controller], replicas: 2, storage: {{{storage}}}}}]}}"
    );
    let object: KafkaCluster = serde_yaml::from_str(&yaml).expect("the cluster parses");
    let cluster = crate::validate::cluster(&object).expect("it is valid");
    let identity = assign(&cluster, "uid", &Known::default());
    let mut observed = Observed::default();
    if let Some(words) = template {
        let mut words = words.split(' ').map(str::to_owned);
        let template = Template {
            size: words.next().expect("a size"),
            class: words.next(),
        };
        observed.templates.insert("a".into(), template);
    }
    for (ordinal, words) in claims.iter().enumerate() {
        let mut words = words.split(' ').map(str::to_owned);
        let requested = words.next().expect("a size");
        let capacity = words.next();
        let claim = Claim {
            requested,
            bound: capacity.is_some(),
            capacity,
        };
        observed
            .claims
            .insert(format!("data-shop-a-{ordinal}"), claim);
    }
    plan(&cluster, &identity, &observed)
}

fn built(plan: &Plan) -> &str {
    &plan.build["a"].size
}

#[test]
fn an_unchanged_pool_needs_nothing() {
    let plan = planned("size: 1Gi", Some("1Gi"), ["1Gi 1Gi", "1Gi 1Gi"]);
    assert_eq!((built(&plan), &plan.grow), ("1Gi", &BTreeMap::new()));
    assert!(plan.replace.is_empty() && plan.growing.is_empty() && plan.refused.is_empty());
    let other_words = planned("size: 1Gi", Some("1024Mi"), ["1Gi 1Gi", "1Gi 1Gi"]);
    assert_eq!(built(&other_words), "1024Mi");
    assert!(other_words.replace.is_empty() && other_words.refused.is_empty());
}

#[test]
fn claims_grow_first_and_the_template_follows_when_all_have_asked() {
    let plan = planned("size: 2Gi", Some("1Gi"), ["1Gi 1Gi", "2Gi 1Gi"]);
    assert_eq!(
        plan.grow,
        [("data-shop-a-0".to_owned(), "2Gi".to_owned())].into()
    );
    assert_eq!((built(&plan), plan.replace.len()), ("1Gi", 0));
    assert_eq!(
        plan.growing,
        [
            "data-shop-a-0 grows from 1Gi to 2Gi",
            "data-shop-a-1 grows from 1Gi to 2Gi"
        ]
    );
    let plan = planned("size: 2Gi", Some("1Gi"), ["2Gi 1Gi", "2Gi 2Gi"]);
    assert!(plan.grow.is_empty());
    assert_eq!(
        (built(&plan), plan.replace.as_slice()),
        ("2Gi", ["a".to_owned()].as_slice())
    );
    let plan = planned("size: 2Gi", None, ["2Gi 2Gi", "2Gi 2Gi"]);
    assert_eq!((built(&plan), plan.replace.len()), ("2Gi", 0));
}

#[test]
fn a_claim_without_a_volume_is_waited_for() {
    let plan = planned("size: 2Gi", Some("1Gi"), ["1Gi", "1Gi 1Gi"]);
    assert_eq!(plan.grow.keys().collect::<Vec<_>>(), ["data-shop-a-1"]);
    assert_eq!((built(&plan), plan.replace.len()), ("1Gi", 0));
    assert_eq!(
        plan.growing[0],
        "data-shop-a-0 cannot grow to 2Gi before it has a volume"
    );
}

#[test]
fn a_claim_that_is_larger_is_a_floor() {
    let plan = planned("size: 2Gi", Some("1Gi"), ["5Gi 5Gi", "2Gi 2Gi"]);
    assert!(plan.grow.is_empty() && plan.growing.is_empty() && plan.refused.is_empty());
    assert_eq!(plan.replace, ["a"]);
}

#[test]
fn what_cannot_change_is_refused_and_kept() {
    let plan = planned(
        "size: 1Gi, storageClassName: fast",
        Some("2Gi"),
        ["2Gi 2Gi", "2Gi 2Gi"],
    );
    assert_eq!(
        plan.build["a"],
        Template {
            size: "2Gi".into(),
            class: None
        }
    );
    assert!(plan.grow.is_empty() && plan.replace.is_empty());
    let said: Vec<String> = plan.refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.pools[a].storage.storageClassName: the volumes of the pool have the default class and cannot change to class fast: set it back, or add a new pool",
            "spec.pools[a].storage.size: the volumes of the pool have 2Gi and cannot shrink to 1Gi: set 2Gi or more",
        ]
    );
}
