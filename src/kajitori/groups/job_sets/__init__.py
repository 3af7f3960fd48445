"""JobSets: Jobs that are one workload.

A look at the world of one set (`observed`) goes into `plan`, which asks `policies` what a Job's end means, `startup`
what may begin, `jobs` what a Job looks like, and `status` what to say. `execution` carries the plan out and
`controller` writes the status, in which alone restarts are counted. Pods are the business of the Job controller.
"""
