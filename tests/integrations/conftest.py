"""What the tests of integrations share."""

import pytest


@pytest.fixture(scope="session")
def cluster():
    """Two nodes, each with two processors, which are promised and not there."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        running = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        try:
            running.add_node(wait=False, **node)
            running.wait_for_nodes(timeout=300)
            yield running
        finally:
            running.shutdown()
