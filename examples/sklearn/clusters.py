"""A site that knows no labels: it sends the means of its rows around each centre."""

from digits import load

import hansa.client as flare
import hansa.client.sklearn as fs

flare.init()
x, _, _, _ = load(flare.system_info()["site_name"])

while flare.is_running():
    answer = fs.centers_of(flare.receive(), x, clusters=10)
    print(answer.metrics, answer.params["counts"])
    flare.send(answer)
