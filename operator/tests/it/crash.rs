//! An operator that dies between any two writes leaves nothing that the next one does not put right (class B1 of the faults).

use serde_json::json;

use crate::fake::{Fixture, room};

fn spec() -> serde_json::Value {
    json!({"replicas": 2, "ingress": {}})
}

#[tokio::test]
async fn operator_that_dies_after_any_write_converges_after_a_restart() {
    let mut undisturbed = Fixture::new(room(spec())).await;
    undisturbed.settle().await;
    let expected = undisturbed.everything();
    let writes = undisturbed.cluster.writes().len() + undisturbed.broker.writes().len();

    for survived in 0..i64::try_from(writes).expect("few") {
        let mut fixture = Fixture::new(room(spec())).await;
        fixture.restart(survived);
        let _ = fixture.reconcile().await;
        fixture.restart(i64::MAX);
        fixture.settle().await;
        assert_eq!(fixture.everything(), expected, "after {survived} writes");
    }
}
