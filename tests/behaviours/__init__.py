"""What kubernetes-sigs/lws checks of its controllers, as sentences of our own: each is a test here, on both servers.

The sentences are those of the design's reference (lws-scheduling.md, A8), in their order. They look at objects from
outside; the group controllers are a process of their own with the rights of an installation. Upstream checks some
of them on StatefulSets, where ours makes pods itself (decision 7): the docstrings say how they translate.

 1 two groups of four are eight pods     test_life.py::test_01    22 an update restarts once       test_restarts.py::test_22
 2 size 1                                test_life.py::test_02    23 restart before the update     test_restarts.py::test_23_24
 3 no replicas, from and to none         test_life.py::test_03    24 restart before a resize       test_restarts.py::test_23_24
 4 scaling takes the highest             test_life.py::test_04    25 startup policies              test_restarts.py::test_25
 5 what was deleted comes back           test_life.py::test_05    26 roll from the highest         test_rollouts.py::test_26
 6 one Service                           test_life.py::test_06    27 maxUnavailable                test_rollouts.py::test_27
 7 one Service a group                   test_life.py::test_07    28 replicas change too           test_rollouts.py::test_28 (2)
 8 labels and annotations                test_shape.py::test_08   29 maxSurge                      test_rollouts.py::test_29
 9 LWS_* variables                       test_shape.py::test_09   30 never fewer than wanted       test_rollouts.py::test_30
10 pods of nobody's set                  test_shape.py::test_10   31 two updates                   test_rollouts.py::test_31
11 TPU variables                         test_shape.py::test_11   32 unready groups                test_rollouts.py::test_32 (2)
12 scale subresource                     test_life.py::test_12    33 partition                     test_rollouts.py::test_33
13 Progressing                           test_life.py::test_13    34 resize                        test_rollouts.py::test_34
14 Available                             test_life.py::test_14    35 revisions                     test_rollouts.py::test_35
15 wiped conditions                      test_life.py::test_15    36 exclusive topology            test_shape.py::test_36
16 restart policy None                   test_restarts.py::16     37 subgroups                     test_shape.py::test_37
17 deleted worker                        test_restarts.py::17     38 foreground deletion           test_life.py::test_38
18 restarted container                   test_restarts.py::18     39 gang of Volcano               tests/groups/leader_worker_sets/test_gang_objects.py
19 deleted leader                        test_restarts.py::19     40 volume claims                 test_life.py::test_40
20 RecreateGroupAfterStart               test_restarts.py::20_21  41 admission                     tests/groups/leader_worker_sets/test_admission.py
21 the same by annotation                test_restarts.py::20_21  42 metrics                       test_life.py::test_42
upgrade: pods stay                       test_rollouts.py::test_upgrade
43 to 50 (DisaggregatedSet)              tests/groups/disaggregated_sets/test_behaviours.py; 44: test_admission.py there

Of 9, that LWS_LEADER_ADDRESS resolves: tests/world/test_story.py (sixteen processes find each other by it). Of 18, a
process that is killed: there, too.
"""
