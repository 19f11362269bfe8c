"""Creates, scales and deletes an application with python3-marathon."""

import sys
import time

from marathon import MarathonClient
from marathon.models import MarathonApp


def wait(what, done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def running(client, count):
    tasks = client.list_tasks("/python")
    return len(tasks) == count and all(t.state == "TASK_RUNNING" and t.ip_addresses for t in tasks)


client = MarathonClient(sys.argv[1])
if not client.ping():
    sys.exit("no answer to ping")
print("framework", client.get_info().framework_id)
app = MarathonApp(
    id="/python",
    cmd="exec /bin/contrail-example serve",
    cpus=0.1,
    mem=32,
    instances=1,
    container={"type": "MESOS", "docker": {"image": "contrail/example"}},
    networks=[{"mode": "container", "name": "contrail", "labels": {"networks": "python"}}],
)
client.create_app("/python", app)
wait("one task", lambda: running(client, 1))
client.scale_app("/python", instances=2)
wait("two tasks", lambda: running(client, 2))
for task in client.list_tasks("/python"):
    print(task.id, task.host, [a.ip_address for a in task.ip_addresses])
wait("no deployment", lambda: not client.list_deployments())
got = client.get_app("/python")
if got.tasks_running != 2:
    sys.exit(f"tasks_running is {got.tasks_running}")
client.delete_app("/python")
wait("deleted", lambda: all(a.id != "/python" for a in client.list_apps()))
wait("no task", lambda: not [t for t in client.list_tasks() if t.app_id == "/python"])
