"""How many cases of a report came out how, and which were not OK."""
import collections
import json
import sys

with open(sys.argv[1] + "/index.json") as index:
    agents = json.load(index)
for agent, cases in agents.items():
    outcomes = collections.Counter()
    for name, case in sorted(cases.items(), key=lambda it: [int(part) for part in it[0].split(".")]):
        outcome = (case["behavior"], case["behaviorClose"])
        outcomes[outcome] += 1
        if outcome not in [("OK", "OK"), ("UNIMPLEMENTED", "OK")]:
            print(name, *outcome)
    print(agent, len(cases))
    for outcome, count in outcomes.most_common():
        print(f"{count:5} behavior {outcome[0]}, close {outcome[1]}")
