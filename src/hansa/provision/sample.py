"""A project file to begin with."""

SAMPLE = """\
# Who takes part in the federation. Change the names, then: hansa provision
api_version: 2
name: my_project              # a folder of this name is made
description: What it is about.

participants:
  # Exactly one server. Its name is the host name by which sites and admins reach it.
  - name: fl.example.org
    type: server
    org: lead
    fed_learn_port: 8002      # the one port of the federation
    enable_byoc: true         # jobs may bring code of their own
    # host_names: [fl.example.com, 203.0.113.7]   # other names and addresses by which it is reached
    # default_host: fl.example.com                # by which kits reach it, if not by its name

  # One for each site.
  - name: hospital-a
    type: client
    org: hospital_a
    enable_byoc: true         # this site runs code that a job brings
    # tags: [mri]             # jobs may ask for sites by tag
    # max_jobs: 2             # at most so many jobs at a time
    # gpus: 1
  - name: hospital-b
    type: client
    org: hospital_b
    enable_byoc: true

  # People who submit jobs, by e-mail address.
  - name: ada@example.org
    type: admin
    org: lead
"""
