"""CronJobs: a Job at every time that a schedule names.

`schedule` reads schedules, `plan` decides (both pure), `controller` carries it out.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
"""
