"""Find the lips in a video: BlazeFace detects faces, FaceMesh follows them, rules make one track of a talking face.

face_networks.py   the network files, and running them
frame.py           a decoded frame, sampled under any square
detector.py        BlazeFace: a square of a frame -> faces
close_up.py        a face that is larger than the frame
face_search.py     all of these: frame -> faces
mesh.py            FaceMesh: a square around a face -> landmarks, and what is read from these
face_tracker.py    frame after frame -> observations of every face
cuts.py            where the scene changes
lip_tracks.py      observations -> the track of the face that talks: choice, gaps, smoothing, scale
face_crops.py      what is kept of each frame, and lip regions out of it
video_tracker.py   one file -> tracks of each of its shots
track_folder.py, track_task.py, calibrate.py   the command `pipeline track`
"""
