//! An operator that dies between any two writes leaves nothing that the next one does not put right (class B1 of the faults).

use serde_json::json;

use crate::fake::{Lab, room};

fn spec() -> serde_json::Value {
    json!({"replicas": 2, "ingress": {}})
}

#[tokio::test]
async fn dying_after_any_write_ends_as_if_it_had_lived() {
    let mut undisturbed = Lab::new(room(spec())).await;
    undisturbed.settle().await;
    let expected = undisturbed.everything();
    let writes = undisturbed.cluster.writes().len() + undisturbed.broker.writes().len();

    for survived in 0..i64::try_from(writes).expect("few") {
        let mut lab = Lab::new(room(spec())).await;
        lab.restart(survived);
        let _ = lab.pass().await;
        lab.restart(i64::MAX);
        lab.settle().await;
        assert_eq!(lab.everything(), expected, "after {survived} writes");
    }
}
