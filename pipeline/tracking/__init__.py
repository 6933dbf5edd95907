"""Find the lips in a video: BlazeFace detects faces, FaceMesh follows them, rules make one track of a talking face.

models.py     the network files, and running them
picture.py    a decoded frame, sampled under any square
detector.py   BlazeFace: a square of a frame -> faces
close_up.py   a face that is larger than the frame
search.py     all of these: frame -> faces
mesh.py       FaceMesh: a square around a face -> landmarks, and what is read from these
tracker.py    frame after frame -> observations of every face
cuts.py       where the scene changes
tracks.py     observations -> the track of the face that talks: choice, gaps, smoothing, scale
face_crops.py   what is kept of each frame, and lip regions out of it
video.py      one file -> tracks of each of its shots
track_folder.py, track_videos.py, calibrate.py   the command `pipeline track`
"""
