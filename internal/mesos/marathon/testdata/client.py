import sys
import threading
import time

from marathon import MarathonClient, MarathonHttpError
from marathon.models import MarathonApp

client = MarathonClient(sys.argv[1])
assert client.ping() == b"pong", client.ping()
info = client.get_info()
assert info.name == "marathon", info
assert client.get_leader()["leader"]

seen = []
ready = threading.Event()


def follow():
    for event in MarathonClient(sys.argv[1]).event_stream():
        seen.append(event.event_type)
        ready.set()


threading.Thread(target=follow, daemon=True).start()
assert ready.wait(10)


def until(what, check):
    end = time.time() + 20
    while not check():
        assert time.time() < end, what
        time.sleep(0.02)


app = client.create_app("/demo/web", MarathonApp(
    cmd="sleep 1000", cpus=0.1, mem=32, instances=2, labels={"a": "b"},
    networks=[{"mode": "container", "name": "contrail", "labels": {"networks": "blue"}}],
    container={"type": "MESOS", "docker": {"image": "repo/example"}, "port_mappings": [{"container_port": 80, "host_port": 0}]}))
assert app.id == "/demo/web", app
until("running", lambda: client.get_app("/demo/web").tasks_running == 2)
until("deployed", lambda: client.list_deployments() == [])
tasks = client.list_tasks("/demo/web")
assert len(tasks) == 2 and tasks[0].ip_addresses[0].ip_address == "10.32.0.7", tasks
assert len(client.list_tasks()) == 2
assert [a.id for a in client.list_apps(embed_tasks=True)] == ["/demo/web"]
assert client.get_app("/demo/web", embed_tasks=True).tasks[0].started_at
client.scale_app("/demo/web", 3)
until("scaled", lambda: client.get_app("/demo/web").tasks_running == 3)
until("deployed", lambda: client.list_deployments() == [])
client.update_app("/demo/web", MarathonApp(env={"X": "1"}))
assert len(client.list_deployments()) <= 1
until("updated", lambda: client.list_deployments() == [])
assert client.get_app("/demo/web").env["X"] == "1"
assert len(client.list_versions("/demo/web")) == 3
before = {t.id for t in client.list_tasks("/demo/web")}
client.kill_tasks("/demo/web")


def replaced():
    now = [t for t in client.list_tasks("/demo/web") if t.state == "TASK_RUNNING"]
    return len(now) == 3 and not before & {t.id for t in now}


until("came back", replaced)
client.create_app("/big", MarathonApp(cmd="x", cpus=100, mem=32))
assert [item.app.id for item in client.list_queue()] == ["/big"]
client.delete_app("/big", force=True)
assert client.get_group("/demo").apps[0].id == "/demo/web"
client.restart_app("/demo/web", force=True)
until("restarted", lambda: client.list_deployments() == [])
try:
    client.create_app("/bad", MarathonApp(cmd="x", cpus=-1))
    raise SystemExit("a negative cpus was taken")
except MarathonHttpError as e:
    assert e.status_code == 422 and "not valid" in str(e), e
client.delete_app("/demo/web", force=True)
until("gone", lambda: client.list_tasks() == [] and client.list_apps() == [] and client.list_deployments() == [])
for kind in ("event_stream_attached", "status_update_event", "deployment_info", "deployment_success", "api_post_event"):
    assert kind in seen, (kind, seen)
